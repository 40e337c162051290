// Loss curves over training steps.

import { useTranslate } from "../../i18n/translate";
import type { LossCurve } from "../../lib/api-types";
import { LinePlot } from "./line-plot";

interface Props {
  curve: LossCurve;
  /** Steps of the whole run, if it has not finished. */
  totalSteps?: number;
}

/** The two losses get a plot each: the training loss has terms that the validation loss has not. */
export function LossChart({ curve, totalSteps = 0 }: Props) {
  const t = useTranslate();
  const maxStep = Math.max(totalSteps, curve.steps.at(-1) ?? 0, 1);
  if (curve.steps.length === 0) return <p className="small">{t("noSteps")}</p>;
  return (
    <>
      <LinePlot
        series="train"
        name={t("trainingLoss")}
        steps={curve.steps}
        losses={curve.losses}
        maxStep={maxStep}
        height={220}
      />
      {curve.dev_losses.length > 0 && (
        <>
          <LinePlot
            series="dev"
            name={t("validationLoss")}
            steps={curve.dev_steps}
            losses={curve.dev_losses}
            maxStep={maxStep}
            height={140}
            bestIndex={curve.best_epoch}
          />
          <p className="small">{t("lossesDiffer")}</p>
        </>
      )}
    </>
  );
}
