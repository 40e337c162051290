// Before the first question: which model will answer, and what it is for.

import { briefs } from "../lib/briefs";
import { useWatched } from "../lib/external";
import { paths } from "../lib/router";
import { useNumbers, useSay } from "../lib/say";
import { about } from "../pages/models";
import { Mark } from "./mark";

export function Greeting({ model }: { model: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const known = useWatched(briefs).find((one) => one.name === model);
  return (
    <div className="greeting">
      <Mark size={44} />
      <p className="large">{known?.task === "label" ? say("greetingLabel") : say("greeting")}</p>
      {known && (
        <p className="small">
          {about(known, say, numbers)}
          {known.kind !== "path" && (
            <>
              {" · "}
              <a href={`#${paths.model(model)}`}>{say("aboutModel")}</a>
            </>
          )}
        </p>
      )}
    </div>
  );
}
