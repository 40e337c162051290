// Runs that go on, with their curves, and the models that earlier ones gave.

import { LossChart } from "../components/line-chart";
import { Facts, Page, Waiting } from "../components/page";
import { useEffect, useRef } from "react";
import { CopyButton } from "../components/copy-button";
import { useLoaded, type Loaded } from "../lib/load";
import { readMe } from "../lib/me";
import { failed } from "../lib/notice";
import { paths } from "../lib/router";
import { useNumbers, useSay, type Say } from "../lib/say";
import type { BriefInList, Run } from "../lib/types";
import { recipe } from "./model";
import { about, ScoreLine } from "./models";

const EVERY_MS = 3000;

interface Runs {
  unfinished: Run[];
  finished: BriefInList[];
}

/** The runs as they go on. When one ends, its specialist can be asked in the open page too. */
function useRuns(): Loaded<Runs> {
  const loaded = useLoaded<Runs>("/api/runs", EVERY_MS);
  const ids = loaded.value?.unfinished.map((run) => run.id).join();
  const before = useRef<string | undefined>(undefined);
  useEffect(() => {
    if (before.current && before.current !== ids) readMe().catch(failed);
    before.current = ids;
  }, [ids]);
  return loaded;
}

export function RunsPage() {
  const say = useSay();
  const numbers = useNumbers();
  const loaded = useRuns();
  return (
    <Page title={say("runs")} said={say("runsSaid")}>
      <Waiting loaded={loaded}>
        {({ unfinished, finished }) => (
          <>
            <section className="section">
              <h2>{say("inProgress")}</h2>
              {unfinished.length === 0 && (
                <p className="small">
                  {say("noRuns")} <code>empu tune DATA --name NAME</code>
                </p>
              )}
              <ul className="cards">
                {unfinished.map((run) => (
                  <li key={run.id}>
                    <a className="name" href={`#${paths.run(run.id)}`}>
                      {titleOf(run)}
                    </a>
                    <State run={run} />
                    <Bar run={run} />
                  </li>
                ))}
              </ul>
            </section>
            {finished.length > 0 && (
              <section className="section">
                <h2>{say("finished")}</h2>
                <ul className="cards">
                  {finished.map((one) => (
                    <li key={one.name}>
                      <a className="name" href={`#${paths.model(one.name)}`}>
                        {one.name}
                      </a>
                      <p className="small">
                        {about(one, say, numbers)} · {one.added_at && numbers.moment(one.added_at)}
                      </p>
                      <ScoreLine brief={one} />
                    </li>
                  ))}
                </ul>
              </section>
            )}
          </>
        )}
      </Waiting>
    </Page>
  );
}

export function RunPage({ id }: { id: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const loaded = useRuns();
  const run = loaded.value?.unfinished.find((one) => one.id === id);
  const seen = useRef<Run | null>(null);
  if (run) seen.current = run;
  const name = seen.current?.name;
  const made = loaded.value?.finished.some((one) => one.name === name);
  return (
    <Page title={seen.current ? titleOf(seen.current) : say("run")} said={run && say("tunedFrom", run.base)}>
      <Waiting loaded={loaded}>
        {() =>
          run ? (
            <>
              <section className="section">
                <State run={run} />
                <Bar run={run} />
                <LossChart curve={run.curve} steps={run.steps} />
              </section>
              <section className="section">
                <Facts
                  facts={[
                    [
                      say("epoch"),
                      `${numbers.count(Math.min(run.epoch + 1, run.epochs))} / ${numbers.count(run.epochs)}`,
                    ],
                    [say("speed"), run.seconds > 0 ? say("rate", numbers.rate(run.tokens / run.seconds)) : "–"],
                    [
                      say("rowsWord"),
                      Object.entries(run.sources)
                        .map(([path, parts]) => `${path}: ${said(parts, numbers.count, say)}`)
                        .join("; "),
                    ],
                    [say("recipe"), <code key="recipe">{recipe(run.recipe)}</code>],
                    [say("started"), numbers.moment(run.started_at)],
                    [say("savedAt"), run.saved_at ? numbers.moment(run.saved_at) : "–"],
                  ]}
                />
              </section>
            </>
          ) : (
            <p className="none">
              {say("runGone")}{" "}
              {made && name ? (
                <a href={`#${paths.model(name)}`}>{say("toCard", name)}</a>
              ) : (
                <a href={`#${paths.runs}`}>{say("toRuns")}</a>
              )}
            </p>
          )
        }
      </Waiting>
    </Page>
  );
}

const PARTS = ["train", "dev", "test"] as const;

function said(parts: Record<string, number>, count: (value: number) => string, say: Say): string {
  return PARTS.flatMap((part) => (parts[part] ? [`${count(parts[part])} ${say(part)}`] : [])).join(", ");
}

function titleOf(run: Run): string {
  return (
    run.name ||
    Object.keys(run.sources)
      .map((path) => path.split("/").at(-1))
      .join(", ") ||
    run.id.slice(0, 12)
  );
}

function State({ run }: { run: Run }) {
  const say = useSay();
  const numbers = useNumbers();
  const words = [
    say(run.is_running ? "running" : "paused"),
    say("stepOf", numbers.count(run.step), numbers.count(run.steps)),
  ];
  if (run.is_running && run.seconds_left !== null) words.push(say("timeLeft", numbers.seconds(run.seconds_left)));
  return (
    <>
      <p className="small">
        <span className={run.is_running ? "lamp on" : "lamp"} /> {words.join(" · ")}
        {!run.is_running && ` · ${say(run.command ? "goesOnWith" : "goesOn")}`}
      </p>
      {!run.is_running && run.command && (
        <div className="row command">
          <code>{run.command}</code>
          <CopyButton text={run.command} />
        </div>
      )}
    </>
  );
}

function Bar({ run }: { run: Run }) {
  const say = useSay();
  return <progress max={Math.max(1, run.steps)} value={run.step} aria-label={say("runs")} />;
}
