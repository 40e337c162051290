// Before the first question.

import { useSay } from "../lib/say";
import { Mark } from "./mark";

export function Greeting({ model }: { model: string }) {
  const say = useSay();
  return (
    <div className="greeting">
      <Mark size={44} />
      <p className="large">{say("greeting")}</p>
      <p className="small">{model}</p>
    </div>
  );
}
