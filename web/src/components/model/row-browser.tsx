// Browses the rows of a model's data, page by page. Nothing is fetched before it is opened.

import { useState } from "react";
import { useFormat } from "../../i18n/format";
import { SPLIT_NAME, SPLITS, type Split } from "../../i18n/splits";
import { useTranslate } from "../../i18n/translate";
import type { DataRow } from "../../lib/api-types";
import { useFetch } from "../../lib/use-fetch";
import { WhenLoaded } from "../ui/when-loaded";

const DEFAULT_PAGE_SIZE = 25;
const ANSWER_FIELDS = new Set(["completion", "label", "chosen", "rejected"]);

interface Props {
  model: string;
  numRows: Record<Split, number>;
}

export function RowBrowser(props: Props) {
  const t = useTranslate();
  const [isOpen, setIsOpen] = useState(false);
  return (
    <details onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary>{t("browseRows")}</summary>
      {isOpen && <RowPages {...props} />}
    </details>
  );
}

function RowPages({ model, numRows }: Props) {
  const t = useTranslate();
  const format = useFormat();
  const [split, setSplit] = useState<Split>("train");
  const [offset, setOffset] = useState(0);
  const result = useFetch<{ rows: DataRow[]; page: number }>(
    `/api/models/${encodeURIComponent(model)}/rows?part=${split}&offset=${offset}`,
  );
  const pageSize = result.data?.page ?? DEFAULT_PAGE_SIZE;
  const total = numRows[split];
  const end = Math.min(offset + pageSize, total);
  return (
    <>
      <div className="row wrap">
        <span className="tabs" role="group" aria-label={t("split")}>
          {SPLITS.map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={name === split}
              onClick={() => {
                setSplit(name);
                setOffset(0);
              }}
            >
              {t(SPLIT_NAME[name])}
            </button>
          ))}
        </span>
        <button
          type="button"
          className="subtle"
          disabled={offset === 0}
          onClick={() => setOffset(Math.max(0, offset - pageSize))}
        >
          {t("previousPage")}
        </button>
        <button
          type="button"
          className="subtle"
          disabled={offset + pageSize >= total}
          onClick={() => setOffset(offset + pageSize)}
        >
          {t("nextPage")}
        </button>
        <span className="small" role="status">
          {total > 0 && t("rowRange", format.integer(offset + 1), format.integer(end), format.integer(total))}
        </span>
      </div>
      <WhenLoaded result={result}>
        {({ rows }) => (
          <ol className="data-rows" start={offset + 1}>
            {rows.map((row) => (
              <li key={row.id + row.number}>
                <RowFields fields={row.fields} />
                <p className="small">
                  {row.source}:{format.integer(row.number)} · {row.licence} · sha256:{row.id.slice(0, 12)}…
                </p>
              </li>
            ))}
          </ol>
        )}
      </WhenLoaded>
    </>
  );
}

function RowFields({ fields }: { fields: Record<string, unknown> }) {
  return (
    <>
      {inputsFirst(fields).map(([name, value]) => (
        <div key={name} className="row-field">
          <span className="small">{name}</span>
          <p className="plain-text" tabIndex={0}>
            {typeof value === "string" ? value : JSON.stringify(value, null, 1)}
          </p>
        </div>
      ))}
    </>
  );
}

/** The server sorts fields by name; show the inputs before the answers. */
function inputsFirst(fields: Record<string, unknown>): [string, unknown][] {
  const rank = (name: string): number => (ANSWER_FIELDS.has(name) ? 1 : 0);
  return Object.entries(fields).sort(([a], [b]) => rank(a) - rank(b));
}
