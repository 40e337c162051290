// The rows that went into a model, a page at a time.

import { useState } from "react";
import { useLoaded } from "../lib/load";
import { useNumbers, useSay } from "../lib/say";
import type { Row } from "../lib/types";
import { Waiting } from "./page";

const ANSWERS = new Set(["completion", "label", "chosen", "rejected"]);
const PARTS = ["train", "dev", "test"] as const;

interface Props {
  model: string;
  /** Rows of each part. */
  total: Record<string, number>;
}

export function RowBrowser({ model, total }: Props) {
  const say = useSay();
  const [open, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{say("lookAtRows")}</summary>
      {open && <Rows model={model} total={total} />}
    </details>
  );
}

function Rows({ model, total }: Props) {
  const say = useSay();
  const numbers = useNumbers();
  const [part, setPart] = useState<(typeof PARTS)[number]>("train");
  const [offset, setOffset] = useState(0);
  const loaded = useLoaded<{ rows: Row[]; page: number }>(
    `/api/models/${encodeURIComponent(model)}/rows?part=${part}&offset=${offset}`,
  );
  const page = loaded.value?.page ?? 25;
  const all = total[part] ?? 0;
  return (
    <>
      <div className="row">
        <span className="tabs" role="group" aria-label={say("part")}>
          {PARTS.map((one) => (
            <button
              key={one}
              type="button"
              aria-pressed={one === part}
              onClick={() => {
                setPart(one);
                setOffset(0);
              }}
            >
              {say(one)}
            </button>
          ))}
        </span>
        <button
          type="button"
          className="quiet"
          disabled={offset === 0}
          onClick={() => setOffset(Math.max(0, offset - page))}
        >
          {say("before")}
        </button>
        <button
          type="button"
          className="quiet"
          disabled={offset + page >= all}
          onClick={() => setOffset(offset + page)}
        >
          {say("after")}
        </button>
        <span className="small" role="status">
          {all > 0 &&
            say("rowsOf", numbers.count(offset + 1), numbers.count(Math.min(offset + page, all)), numbers.count(all))}
        </span>
      </div>
      <Waiting loaded={loaded}>
        {({ rows }) => (
          <ol className="rows" start={offset + 1}>
            {rows.map((row) => (
              <li key={row.id + row.number}>
                <Fields fields={row.fields} />
                <p className="small">
                  {row.source}:{numbers.count(row.number)} · {row.licence} · sha256:{row.id.slice(0, 12)}…
                </p>
              </li>
            ))}
          </ol>
        )}
      </Waiting>
    </>
  );
}

function Fields({ fields }: { fields: Record<string, unknown> }) {
  return (
    <>
      {inOrder(fields).map(([name, value]) => (
        <div key={name} className="field">
          <span className="small">{name}</span>
          <p className="plain" tabIndex={0}>
            {typeof value === "string" ? value : JSON.stringify(value, null, 1)}
          </p>
        </div>
      ))}
    </>
  );
}

/** What is asked comes before what is answered; fields are kept in the order of their names. */
function inOrder(fields: Record<string, unknown>): [string, unknown][] {
  const place = (name: string): number => (ANSWERS.has(name) ? 1 : 0);
  return Object.entries(fields).sort(([a], [b]) => place(a) - place(b));
}
