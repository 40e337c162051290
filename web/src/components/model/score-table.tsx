// The scores of all systems in one table, with a bar and an interval each.

import { useState } from "react";
import { metricName, metricNames, systemName } from "../../i18n/evaluation";
import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { MetricValue, SystemScore } from "../../lib/api-types";

export function ScoreTable({ scores, specialist }: { scores: SystemScore[]; specialist: string }) {
  const t = useTranslate();
  const format = useFormat();
  const metrics = metricNames(scores);
  const [selected, setSelected] = useState("");
  const metric = metrics.includes(selected) ? selected : (metrics[0] ?? "");
  const numRows = scores.at(-1)?.metrics[metric]?.rows ?? 0;
  return (
    <figure className="score-table">
      <figcaption className="legend">
        <span className="tabs" role="group" aria-label={t("metric")}>
          {metrics.map((name) => (
            <button key={name} type="button" aria-pressed={name === metric} onClick={() => setSelected(name)}>
              {metricName(name, t)}
            </button>
          ))}
        </span>
        <span>{t("onTestRows", format.integer(numRows))}</span>
      </figcaption>
      <div className="table-scroll" tabIndex={0} role="group" aria-label={t("scores")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("model")}</th>
              <th scope="col" className="bar-column">
                <span className="visually-hidden">{metricName(metric, t)}</span>
              </th>
              <th scope="col" className="right">
                {metricName(metric, t)}
                <span className="small block">{t("interval")}</span>
              </th>
              <th scope="col" className="right">
                {t("timePerAnswer")}
              </th>
            </tr>
          </thead>
          <tbody>
            {scores.map((score) => {
              const value = score.metrics[metric];
              return (
                <tr key={score.name} className={score.name === specialist ? "specialist" : undefined}>
                  <th scope="row">{systemName(score.name, t)}</th>
                  <td className="bar-column">{value && <Bar {...value} />}</td>
                  <td className="right">
                    {value ? format.percent(value.value) : "–"}
                    {value && (
                      <span className="small block">
                        {format.decimal(100 * value.low, 1)}–{format.decimal(100 * value.high, 1)}
                      </span>
                    )}
                  </td>
                  <td className="right">
                    {score.ms_per_answer === null ? "" : `${format.decimal(score.ms_per_answer, 1)} ms`}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </figure>
  );
}

function Bar({ value, low, high }: MetricValue) {
  return (
    <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect className="bar-track" width="100" height="10" />
      <rect className="bar-value" width={100 * value} height="10" />
      <rect className="bar-interval" x={100 * low} y="4.2" width={100 * (high - low)} height="1.6" />
    </svg>
  );
}
