// The answer of a classification specialist: the label, its confidence, and the next likely labels.

import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { AnswerFacts } from "../../lib/api-types";

const MAX_OTHER_LABELS = 3;

export function LabelAnswer({ label, facts }: { label: string; facts: AnswerFacts }) {
  const t = useTranslate();
  const format = useFormat();
  const confidence = facts.confidence ?? 0;
  const isInScope = facts.out_of_scope !== true;
  const others = (facts.labels ?? []).filter((other) => other.label !== label).slice(0, MAX_OTHER_LABELS);
  return (
    <div className="label-answer">
      <p className="predicted-label">
        <strong>{label}</strong> {isInScope && <span>{t("confidence", format.percent(confidence))}</span>}
      </p>
      {isInScope && <Meter fraction={confidence} isBest />}
      {others.length > 0 && (
        <ul aria-label={t("otherLabels")} title={t("probabilitiesHelp")}>
          {others.map((other) => (
            <li key={other.label}>
              <span className="row space-between">
                <span>{other.label}</span> <span>{format.percent(Math.exp(other.logprob))}</span>
              </span>
              <Meter fraction={Math.exp(other.logprob)} />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Meter({ fraction, isBest = false }: { fraction: number; isBest?: boolean }) {
  return (
    <svg className={isBest ? "meter best" : "meter"} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
      <rect className="bar-track" width="100" height="4" />
      <rect className="bar-value" width={100 * fraction} height="4" />
    </svg>
  );
}
