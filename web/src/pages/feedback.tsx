// What was thought of answers, and the way out of it: rows for the next tuning.

import { Download, FolderDown, PenLine, ThumbsDown, ThumbsUp } from "lucide-react";
import { useState } from "react";
import { CopyButton } from "../components/copy-button";
import { Page, Waiting } from "../components/page";
import { call } from "../lib/api";
import { useLoaded } from "../lib/load";
import { paths } from "../lib/router";
import { useNumbers, useSay } from "../lib/say";
import { told } from "../lib/told";
import type { Feedback, Judged, RowKind } from "../lib/types";

interface Saved {
  path: string;
  rows: number;
  command: string;
}

/** Rows that empu tune wants at least. */
const FEWEST = 10;
const KINDS: RowKind[] = ["labels", "messages", "preferences"];
const NAMES = { labels: "labels", messages: "messages", preferences: "pairs" } as const;

export function FeedbackPage() {
  const say = useSay();
  const loaded = useLoaded<Feedback>("/api/feedback");
  return (
    <Page title={say("feedback")} said={say("feedbackSaid")}>
      <Waiting loaded={loaded}>
        {(found) => (
          <>
            <Counts found={found} />
            {found.items.length === 0 && <p className="none">{say("noFeedback")}</p>}
            <section className="section">
              <h2>{say("rowsForTuning")}</h2>
              <ul className="cards">
                {KINDS.map((kind) => (
                  <Kind key={kind} kind={kind} count={found.rows[kind]} />
                ))}
              </ul>
            </section>
            {found.items.length > 0 && (
              <section className="section">
                <h2>{say("newest")}</h2>
                <ul className="judged">
                  {found.items.map((one) => (
                    <Item key={one.id} item={one} />
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

function Counts({ found }: { found: Feedback }) {
  const say = useSay();
  const numbers = useNumbers();
  return (
    <ul className="counts">
      <li>
        <ThumbsUp aria-hidden /> <strong>{numbers.count(found.up)}</strong> {say("goodOnes")}
      </li>
      <li>
        <ThumbsDown aria-hidden /> <strong>{numbers.count(found.down)}</strong> {say("badOnes")}
      </li>
      <li>
        <PenLine aria-hidden /> <strong>{numbers.count(found.corrections)}</strong> {say("corrections")}
      </li>
    </ul>
  );
}

function Kind({ kind, count }: { kind: RowKind; count: number }) {
  const say = useSay();
  const numbers = useNumbers();
  const [saved, setSaved] = useState<Saved | null>(null);
  const [problem, setProblem] = useState("");
  const rows = (many: number): string => (many === 1 ? say("oneRow") : say("rowCount", numbers.count(many)));
  const save = async (): Promise<void> => {
    try {
      setSaved(await call<Saved>("POST", "/api/feedback/save", { kind }));
      setProblem("");
    } catch (error) {
      setProblem(told(error, say));
    }
  };
  return (
    <li>
      <p className="name">
        {say(NAMES[kind])} <span className="small">{rows(count)}</span>
      </p>
      <p className="small">{say(`${kind}Said`)}</p>
      {count > 0 && (
        <div className="row">
          <a className="button" href={`/api/feedback/rows/${kind}`} download>
            <Download aria-hidden /> {say("exportRows")}
          </a>
          <button type="button" onClick={() => void save()}>
            <FolderDown aria-hidden /> {say("saveRows")}
          </button>
        </div>
      )}
      <p className="error" role="alert">
        {problem}
      </p>
      {saved && (
        <div className="saved" role="status">
          <p className="small">
            {saved.rows < FEWEST
              ? say("savedFew", rows(saved.rows), numbers.count(FEWEST - saved.rows))
              : say("savedRows", rows(saved.rows))}
          </p>
          <div className="row">
            <code>{saved.command}</code>
            <CopyButton text={saved.command} />
          </div>
          <p className="small">{say("theseRowsAlone")}</p>
        </div>
      )}
    </li>
  );
}

function Item({ item }: { item: Judged }) {
  const say = useSay();
  const Icon = item.correction !== null ? PenLine : item.verdict === "up" ? ThumbsUp : ThumbsDown;
  const word = item.correction !== null ? "corrected" : item.verdict === "up" ? "good" : "bad";
  return (
    <li>
      <span className={`sign ${item.verdict ?? ""}`} role="img" aria-label={say(word)}>
        <Icon aria-hidden />
      </span>
      <div>
        <a href={`#${paths.talk(item.conversation)}`}>{item.question}</a>
        <p className={item.correction === null ? "clip" : "clip struck"}>{item.content}</p>
        {item.correction !== null && <p className="clip">{item.correction}</p>}
      </div>
    </li>
  );
}
