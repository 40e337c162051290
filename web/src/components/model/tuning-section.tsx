// How a specialist was tuned: loss curves, lineage, machine and hyperparameters.

import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { TrainingRecord } from "../../lib/api-types";
import { DescriptionList } from "../ui/description-list";
import { Hyperparameters } from "./hyperparameters";
import { LossChart } from "./loss-chart";

export function TuningSection({ record }: { record: TrainingRecord }) {
  const t = useTranslate();
  const format = useFormat();
  const { run, curve, lineage } = record;
  const { processor, cores, torch } = run.machine;
  const { seconds } = run.facts;
  return (
    <section className="section">
      <h2>{t("howTuned")}</h2>
      {curve.losses.length > 0 && <LossChart curve={curve} />}
      <DescriptionList
        items={[
          [t("lineage"), lineage.map(({ name, id }) => `${name} (${id.slice(0, 19)}…)`).join(" ← ")],
          [t("dateAndDuration"), `${format.dateTime(run.started_at)}${seconds ? `, ${format.duration(seconds)}` : ""}`],
          [t("machine"), `${String(processor)}, ${String(cores)} ${t("cores")}, torch ${String(torch)}`],
          [t("hyperparameters"), <Hyperparameters key="hyperparameters" values={run.recipe} />],
          [t("seed"), String(run.seed)],
        ]}
      />
    </section>
  );
}
