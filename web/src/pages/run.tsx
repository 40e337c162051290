// One unfinished tuning run with its loss curves.

import { useRef } from "react";
import { Hyperparameters } from "../components/model/hyperparameters";
import { LossChart } from "../components/model/loss-chart";
import { ProgressBar, RunStatus } from "../components/model/run-status";
import { DescriptionList } from "../components/ui/description-list";
import { PageLayout } from "../components/ui/page-layout";
import { WhenLoaded } from "../components/ui/when-loaded";
import { useFormat } from "../i18n/format";
import { SPLIT_ROW_COUNT, SPLITS } from "../i18n/splits";
import { useTranslate } from "../i18n/translate";
import type { TuningRun } from "../lib/api-types";
import { paths } from "../lib/router";
import { runTitle, useRuns } from "./use-runs";

export function RunPage({ id }: { id: string }) {
  const t = useTranslate();
  const result = useRuns();
  const run = result.data?.unfinished.find((candidate) => candidate.id === id);
  const lastSeen = useRef<TuningRun | null>(null);
  if (run) lastSeen.current = run;
  const name = lastSeen.current?.name ?? null;
  const isFinished = result.data?.finished.some((model) => model.name === name) ?? false;
  return (
    <PageLayout
      title={lastSeen.current ? runTitle(lastSeen.current) : t("run")}
      description={run && t("tunedFrom", run.base)}
    >
      <WhenLoaded result={result}>
        {() =>
          run ? (
            <>
              <section className="section">
                <RunStatus run={run} />
                <ProgressBar run={run} />
                <LossChart curve={run.curve} totalSteps={run.steps} />
              </section>
              <section className="section">
                <RunDetails run={run} />
              </section>
            </>
          ) : (
            <p className="empty-state">
              {t("runNotFound")}{" "}
              {isFinished && name ? (
                <a href={`#${paths.model(name)}`}>{t("modelCardOf", name)}</a>
              ) : (
                <a href={`#${paths.runs}`}>{t("allRuns")}</a>
              )}
            </p>
          )
        }
      </WhenLoaded>
    </PageLayout>
  );
}

function RunDetails({ run }: { run: TuningRun }) {
  const t = useTranslate();
  const format = useFormat();
  const epoch = Math.min(run.epoch + 1, run.epochs);
  const rowCounts = (rows: Record<string, number>): string =>
    SPLITS.flatMap((split) => (rows[split] ? [t(SPLIT_ROW_COUNT[split], format.integer(rows[split]))] : [])).join(", ");
  return (
    <DescriptionList
      items={[
        [t("epoch"), `${format.integer(epoch)} / ${format.integer(run.epochs)}`],
        [t("speed"), run.seconds > 0 ? t("tokensPerSecond", format.rate(run.tokens / run.seconds)) : "–"],
        [
          t("rows"),
          Object.entries(run.sources)
            .map(([path, rows]) => `${path}: ${rowCounts(rows)}`)
            .join("; "),
        ],
        [t("hyperparameters"), <Hyperparameters key="hyperparameters" values={run.recipe} />],
        [t("started"), format.dateTime(run.started_at)],
        [t("lastCheckpoint"), run.saved_at ? format.dateTime(run.saved_at) : "–"],
      ]}
    />
  );
}
