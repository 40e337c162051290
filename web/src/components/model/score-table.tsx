// Scores side by side, each with its interval: a table whose bars are drawn.

import { useState } from "react";
import { contestantName, measureName, measures } from "../lib/contestants";
import { useNumbers, useSay } from "../lib/say";
import type { Score } from "../lib/types";

export function ScoreChart({ scores, own }: { scores: Score[]; own: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const metrics = measures(scores);
  const [chosen, setChosen] = useState("");
  const name = metrics.includes(chosen) ? chosen : (metrics[0] ?? "");
  const rows = scores.at(-1)?.metrics[name]?.rows ?? 0;
  return (
    <figure className="scores">
      <figcaption className="legend">
        <span className="tabs" role="group" aria-label={say("measure")}>
          {metrics.map((metric) => (
            <button key={metric} type="button" aria-pressed={metric === name} onClick={() => setChosen(metric)}>
              {measureName(metric, say)}
            </button>
          ))}
        </span>
        <span>{say("heldOut", numbers.count(rows))}</span>
      </figcaption>
      <div className="table" tabIndex={0} role="group" aria-label={say("scores")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{say("model")}</th>
              <th scope="col" className="bars">
                <span className="hidden">{measureName(name, say)}</span>
              </th>
              <th scope="col" className="right">
                {measureName(name, say)}
                <span className="small block">{say("interval")}</span>
              </th>
              <th scope="col" className="right">
                {say("perAnswer")}
              </th>
            </tr>
          </thead>
          <tbody>
            {scores.map((score) => {
              const metric = score.metrics[name];
              return (
                <tr key={score.name} className={score.name === own ? "own" : undefined}>
                  <th scope="row">{contestantName(score.name, say)}</th>
                  <td className="bars">
                    {metric && (
                      <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
                        <rect className="whole" width="100" height="10" />
                        <rect className="part" width={100 * metric.value} height="10" />
                        <rect
                          className="range"
                          x={100 * metric.low}
                          y="4.2"
                          width={100 * (metric.high - metric.low)}
                          height="1.6"
                        />
                      </svg>
                    )}
                  </td>
                  <td className="right">
                    {metric ? numbers.percent(metric.value) : "–"}
                    {metric && (
                      <span className="small block">
                        {numbers.fixed(100 * metric.low, 1)}–{numbers.fixed(100 * metric.high, 1)}
                      </span>
                    )}
                  </td>
                  <td className="right">
                    {score.ms_per_answer === null ? "" : `${numbers.fixed(score.ms_per_answer, 1)} ms`}
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
