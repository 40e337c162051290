// The card of one model: what it does, how well, made of what, under which licences, and a place to try it.

import { MessageSquare } from "lucide-react";
import { LossChart } from "../components/line-chart";
import { Facts, Page, Tags, Waiting } from "../components/page";
import { RowBrowser } from "../components/row-browser";
import { ScoreChart } from "../components/score-chart";
import { TryBox } from "../components/try-box";
import { verdict } from "../lib/contestants";
import { useLoaded } from "../lib/load";
import { paths } from "../lib/router";
import { useNumbers, useSay, type Numbers, type Say } from "../lib/say";
import type { Card, Made } from "../lib/types";
import type { Words } from "../lib/words";
import { about } from "./models";

export function ModelPage({ name }: { name: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const loaded = useLoaded<Card>(`/api/models/${encodeURIComponent(name)}`);
  const card = loaded.value;
  const said = card ? about({ ...card, licence: card.licence?.id ?? null }, say, numbers) : "";
  const isGone = loaded.problem?.status === 404;
  const chat = isGone ? (
    <a className="button" href={`#${paths.models}`}>
      {say("toModels")}
    </a>
  ) : (
    <a className="button primary" href={`#${paths.freshWith(name)}`}>
      <MessageSquare aria-hidden /> {say("chat")}
    </a>
  );
  return (
    <Page title={name} said={said} aside={chat}>
      <Waiting loaded={loaded}>
        {(value) => (
          <>
            {value.made && <Scores made={value.made} name={name} />}
            <section className="section">
              <h2>{say("tryIt")}</h2>
              {value.instruction && <p className="small">{say("instructed", value.instruction)}</p>}
              <TryBox key={name} model={name} />
            </section>
            {value.made && <Making made={value.made} name={name} />}
            <About card={value} />
          </>
        )}
      </Waiting>
    </Page>
  );
}

function Scores({ made, name }: { made: Made; name: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const sentence = verdict(made.scores, say, numbers);
  return (
    <section className="section">
      <h2>{say("scores")}</h2>
      {made.scores.length === 0 && <p className="small">{say("notScored")}</p>}
      {sentence && <p className="verdict">{sentence}</p>}
      {made.scores.length > 0 && <ScoreChart scores={made.scores} own={name} />}
    </section>
  );
}

function Making({ made, name }: { made: Made; name: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const { run } = made;
  const parts = ["train", "dev", "test"];
  const total = Object.fromEntries(
    parts.map((part) => [part, made.sources.reduce((sum, source) => sum + (source.rows[part] ?? 0), 0)]),
  );
  return (
    <>
      <section className="section">
        <h2>{say("rowsAndLicences")}</h2>
        <div className="table" tabIndex={0} role="group" aria-label={say("rowsAndLicences")}>
          <table className="files">
            <thead>
              <tr>
                <th scope="col">{say("file")}</th>
                <th scope="col">{say("licence")}</th>
                {parts.map((part) => (
                  <th key={part} scope="col" className="right">
                    {say(part as "train")}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {made.sources.map((source) => (
                <tr key={source.sha256 + source.path}>
                  <th scope="row">
                    {source.path}
                    <span className="small hash">sha256:{source.sha256.slice(0, 16)}…</span>
                  </th>
                  <td data-label={say("licence")}>{source.licence === "unknown" ? say("unknown") : source.licence}</td>
                  {parts.map((part) => (
                    <td key={part} className="right" data-label={say(part as "train")}>
                      {numbers.count(source.rows[part] ?? 0)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {made.left_out > 0 && (
          <details>
            <summary>{say("leftOut", numbers.count(made.left_out))}</summary>
            <ul className="plainlist">
              {made.reasons.map(([reason, count]) => (
                <li key={reason}>
                  {numbers.count(count)} × {reason}
                </li>
              ))}
            </ul>
          </details>
        )}
        <RowBrowser model={name} total={total} />
      </section>
      <section className="section">
        <h2>{say("howTuned")}</h2>
        {made.curve.losses.length > 0 && <LossChart curve={made.curve} />}
        <Facts
          facts={[
            [say("madeFrom"), made.lineage.map((one) => `${one.name} (${one.id.slice(0, 19)}…)`).join(" ← ")],
            [
              say("when"),
              `${numbers.moment(run.started_at)}${run.facts.seconds ? `, ${numbers.seconds(run.facts.seconds)}` : ""}`,
            ],
            [
              say("machine"),
              `${String(run.machine.processor)}, ${String(run.machine.cores)} ${say("cores")}, torch ${String(run.machine.torch)}`,
            ],
            [say("recipe"), <code key="recipe">{recipe(run.recipe)}</code>],
            [say("seed"), String(run.seed)],
          ]}
        />
      </section>
    </>
  );
}

export function recipe(given: Record<string, unknown>): string {
  const said = Object.entries(given).filter(([, value]) => value !== null);
  return said.map(([name, value]) => `${name} ${Array.isArray(value) ? value.join("+") : String(value)}`).join(", ");
}

function About({ card }: { card: Card }) {
  const say = useSay();
  const numbers = useNumbers();
  if (card.kind === "path") return null;
  const facts: [string, React.ReactNode][] = [];
  const licence = card.licence;
  facts.push([
    say("licence"),
    <>
      {licence?.title ?? licence?.id ?? say("licenceUnknown")}
      {licence?.note && <span className="small block">{noteOf(licence.id, say) ?? licence.note}</span>}
      {licence?.according_to && (
        <span className="small block">{say("accordingTo", whoSays(licence.according_to, say))}</span>
      )}
    </>,
  ]);
  if (card.label_names?.length) facts.push([say("labels"), <Tags key="labels" names={card.label_names} />]);
  facts.push([say("trainingData"), trainingData(card, say, numbers)]);
  for (const [i, one] of (card.disclosure?.statements ?? []).entries())
    facts.push([
      i === 0 ? say("statements") : "\u00a0".repeat(i),
      <Statement key={i} says={one.says} by={one.according_to} />,
    ]);
  facts.push([
    say("notKnown"),
    card.made ? (
      card.made.not_known.length ? (
        <List items={card.made.not_known.map((one) => say(UNKNOWN[one.what] ?? "unknown", one.about, one.more))} />
      ) : (
        say("nothingUnknown")
      )
    ) : (
      say("notMadeHere")
    ),
  ]);
  if (card.parameters)
    facts.push([
      say("size"),
      `${numbers.count(card.parameters)} ${say("numbersTrained")}, ${card.format ?? ""}, ${numbers.bytes(card.size ?? 0)}`,
    ]);
  if (card.id) facts.push([say("identity"), <code key="id">{card.id}</code>]);
  return (
    <section className="section">
      <h2>{say("knownOf")}</h2>
      <Facts facts={facts} />
    </section>
  );
}

const UNKNOWN: Record<string, keyof Words> = {
  licence: "unknownLicence",
  data: "unknownData",
  ancestor: "unknownAncestor",
  rows: "unknownRows",
  end: "unknownEnd",
  base: "unknownBase",
  scores: "unknownScores",
};

function trainingData(card: Card, say: Say, numbers: Numbers): string {
  const said = card.disclosure?.in_files;
  if (card.made?.sources.length) {
    const rows = card.made.sources.reduce((sum, source) => sum + (source.rows.train ?? 0), 0);
    return say("tunedOnRows", numbers.count(rows), card.made.sources.map((source) => source.path).join(", "));
  }
  return !said || said === "not disclosed" ? say("notDisclosed") : said;
}

/** What the server says of the licences that it knows, in the page's language. */
function noteOf(licence: string | null, say: Say): string | null {
  if (licence === "Apache-2.0") return say("noteApache");
  if (licence === "MIT") return say("noteMit");
  return licence?.startsWith("llama") ? say("noteCommunity") : null;
}

function whoSays(by: string, say: Say): string {
  const base = /^its base, (.+)$/.exec(by)?.[1];
  return base ? say("itsBase", base) : by;
}

function List({ items }: { items: string[] }) {
  return (
    <ul className="plainlist">
      {items.map((one) => (
        <li key={one}>{one}</li>
      ))}
    </ul>
  );
}

function Statement({ says, by }: { says: string; by: string }) {
  const say = useSay();
  return (
    <>
      <span lang="en">{says}</span> <span className="small">({say("accordingTo", whoSays(by, say))})</span>
    </>
  );
}
