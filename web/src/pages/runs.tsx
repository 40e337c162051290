// Unfinished tuning runs, and the specialists of finished ones.

import { ProgressBar, RunStatus } from "../components/model/run-status";
import { ScoreLine } from "../components/model/score-line";
import { PageLayout } from "../components/ui/page-layout";
import { WhenLoaded } from "../components/ui/when-loaded";
import { useFormat } from "../i18n/format";
import { modelSummary } from "../i18n/model-summary";
import { useTranslate } from "../i18n/translate";
import { paths } from "../lib/router";
import { runTitle, useRuns } from "./use-runs";

export function RunsPage() {
  const t = useTranslate();
  const format = useFormat();
  const result = useRuns();
  return (
    <PageLayout title={t("runs")} description={t("runsHelp")}>
      <WhenLoaded result={result}>
        {({ unfinished, finished }) => (
          <>
            <section className="section">
              <h2>{t("unfinished")}</h2>
              {unfinished.length === 0 && (
                <p className="small">
                  {t("noRuns")} <code>empu tune DATA --name NAME</code>
                </p>
              )}
              <ul className="card-list">
                {unfinished.map((run) => (
                  <li key={run.id}>
                    <a className="card-title" href={`#${paths.run(run.id)}`}>
                      {runTitle(run)}
                    </a>
                    <RunStatus run={run} />
                    <ProgressBar run={run} />
                  </li>
                ))}
              </ul>
            </section>
            {finished.length > 0 && (
              <section className="section">
                <h2>{t("finished")}</h2>
                <ul className="card-list">
                  {finished.map((model) => (
                    <li key={model.name}>
                      <a className="card-title" href={`#${paths.model(model.name)}`}>
                        {model.name}
                      </a>
                      <p className="small">
                        {modelSummary(model, t, format)} · {model.added_at && format.dateTime(model.added_at)}
                      </p>
                      <ScoreLine score={model.score} />
                    </li>
                  ))}
                </ul>
              </section>
            )}
          </>
        )}
      </WhenLoaded>
    </PageLayout>
  );
}
