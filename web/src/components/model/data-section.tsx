// The files, licences and rows that a specialist was tuned and evaluated on.

import { useFormat } from "../../i18n/format";
import { SPLIT_ROWS, SPLITS, type Split } from "../../i18n/splits";
import { useTranslate } from "../../i18n/translate";
import type { TrainingRecord } from "../../lib/api-types";
import { RowBrowser } from "./row-browser";

export function DataSection({ record, model }: { record: TrainingRecord; model: string }) {
  const t = useTranslate();
  const format = useFormat();
  const total = (split: Split): number => record.sources.reduce((sum, source) => sum + (source.rows[split] ?? 0), 0);
  return (
    <section className="section">
      <h2>{t("dataAndLicences")}</h2>
      <div className="table-scroll" tabIndex={0} role="group" aria-label={t("dataAndLicences")}>
        <table className="source-files">
          <thead>
            <tr>
              <th scope="col">{t("file")}</th>
              <th scope="col">{t("licence")}</th>
              {SPLITS.map((split) => (
                <th key={split} scope="col" className="right">
                  {t(SPLIT_ROWS[split])}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {record.sources.map((source) => (
              <tr key={source.sha256 + source.path}>
                <th scope="row">
                  {source.path}
                  <span className="small block">sha256:{source.sha256.slice(0, 16)}…</span>
                </th>
                <td data-label={t("licence")}>{source.licence === "unknown" ? t("unknown") : source.licence}</td>
                {SPLITS.map((split) => (
                  <td key={split} className="right" data-label={t(SPLIT_ROWS[split])}>
                    {format.integer(source.rows[split] ?? 0)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {record.left_out > 0 && (
        <details>
          <summary>{t("excludedRows", format.integer(record.left_out))}</summary>
          <ul className="bullet-list">
            {record.reasons.map(([reason, count]) => (
              <li key={reason}>
                {format.integer(count)} × {reason}
              </li>
            ))}
          </ul>
        </details>
      )}
      <RowBrowser model={model} numRows={{ train: total("train"), dev: total("dev"), test: total("test") }} />
    </section>
  );
}
