// The card of one model: what it does, how well, made of what, under which licences, and a place to try it.

import { MessageSquare } from "lucide-react";
import { LossChart } from "../components/line-chart";
import { Facts, Page, Waiting } from "../components/page";
import { RowBrowser } from "../components/row-browser";
import { ScoreChart } from "../components/score-chart";
import { TryBox } from "../components/try-box";
import { useLoaded } from "../lib/load";
import { paths } from "../lib/router";
import { useNumbers, useSay } from "../lib/say";
import type { Card, Made } from "../lib/types";
import { about } from "./models";

export function ModelPage({ name }: { name: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const loaded = useLoaded<Card>(`/api/models/${encodeURIComponent(name)}`);
  const card = loaded.value;
  const said = card ? about({ ...card, licence: card.licence?.id ?? null }, say, numbers) : "";
  const chat = (
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
  const sentence = made.scores.at(-1)?.sentence;
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
  return (
    <>
      <section className="section">
        <h2>{say("rowsAndLicences")}</h2>
        <div className="table" tabIndex={0} role="group" aria-label={say("rowsAndLicences")}>
          <table>
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
                  <td>{source.licence}</td>
                  {parts.map((part) => (
                    <td key={part} className="right">
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
        <RowBrowser model={name} />
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
      {licence?.note && <span className="small"> {licence.note}</span>}
      {licence?.according_to && <span className="small"> {say("accordingTo", licence.according_to)}</span>}
    </>,
  ]);
  if (card.label_names?.length) facts.push([say("labels"), <Tags key="labels" names={card.label_names} />]);
  facts.push([say("trainingData"), card.disclosure?.in_files ?? say("unknown")]);
  for (const [i, one] of (card.disclosure?.statements ?? []).entries())
    facts.push([
      i === 0 ? say("statements") : "\u00a0".repeat(i),
      <Statement key={i} says={one.says} by={one.according_to} />,
    ]);
  facts.push([
    say("notKnown"),
    card.made ? (
      card.made.not_known.length ? (
        <List items={card.made.not_known} />
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

function Tags({ names }: { names: string[] }) {
  return (
    <ul className="tags">
      {names.map((one) => (
        <li key={one}>{one}</li>
      ))}
    </ul>
  );
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
      {says} <span className="small">({say("accordingTo", by)})</span>
    </>
  );
}
