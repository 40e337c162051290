// A specialist's main score in one line; nothing for a model that was not evaluated.

import { metricName } from "../../i18n/evaluation";
import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { ModelListItem } from "../../lib/api-types";

export function ScoreLine({ score }: { score: ModelListItem["score"] }) {
  const t = useTranslate();
  const format = useFormat();
  if (!score) return null;
  return (
    <p className="small score-line">
      <strong>{format.percent(score.value)}</strong> {metricName(score.metric, t)}{" "}
      {t("onTestRows", format.integer(score.rows))}
    </p>
  );
}
