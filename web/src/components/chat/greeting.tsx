// Before the first question: which model will answer, and what it is for.

import { briefs } from "../lib/briefs";
import { useWatched } from "../lib/external";
import { useLoaded } from "../lib/load";
import { paths } from "../lib/router";
import { useNumbers, useSay } from "../lib/say";
import type { Card, Row } from "../lib/types";
import { about } from "../pages/models";
import { Mark } from "./mark";
import { Tags } from "./page";

export function Greeting({ model, onTry }: { model: string; onTry: (text: string) => void }) {
  const say = useSay();
  const numbers = useNumbers();
  const known = useWatched(briefs).find((one) => one.name === model);
  const namesLabels = known?.task === "label";
  return (
    <div className="greeting">
      <Mark size={44} />
      <p className="large">{namesLabels ? say("greetingLabel", numbers.count(known.labels ?? 0)) : say("greeting")}</p>
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
      {namesLabels && <LabelsAndExamples key={model} model={model} onTry={onTry} />}
    </div>
  );
}

const EXAMPLES = 3;
const LONGEST = 240;
/** Labels that are listed; a task may have hundreds. */
const SHOWN = 24;

/** What it can say, and rows of its own that it was not tuned on. */
function LabelsAndExamples({ model, onTry }: { model: string; onTry: (text: string) => void }) {
  const say = useSay();
  const numbers = useNumbers();
  const address = `/api/models/${encodeURIComponent(model)}`;
  const labels = useLoaded<Card>(address).value?.label_names ?? [];
  const rows = useLoaded<{ rows: Row[] }>(`${address}/rows?part=test`).value?.rows ?? [];
  const examples = differing(rows).slice(0, EXAMPLES);
  const rest = labels.length - SHOWN;
  return (
    <>
      <Tags names={labels.slice(0, SHOWN)} more={rest > 0 ? say("andMore", numbers.count(rest)) : undefined} />
      {examples.length > 0 && (
        <section className="examples">
          <h2>{say("examples")}</h2>
          {examples.map((text) => (
            <button key={text} type="button" onClick={() => onTry(text)}>
              {text}
            </button>
          ))}
        </section>
      )}
    </>
  );
}

/** Texts of rows of different labels first; overlong ones are no examples. */
function differing(rows: Row[]): string[] {
  const seen = new Set<unknown>();
  const texts = rows.flatMap(({ fields: { text, label } }) => {
    if (typeof text !== "string" || text.length > LONGEST) return [];
    const isNew = !seen.has(label);
    seen.add(label);
    return [{ text, isNew }];
  });
  return [...texts.filter((one) => one.isNew), ...texts.filter((one) => !one.isNew)].map((one) => one.text);
}
