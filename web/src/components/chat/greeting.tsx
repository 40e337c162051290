// Shown in a new conversation: the model that answers, its labels, and examples to try.

import { useFormat } from "../../i18n/format";
import { modelSummary } from "../../i18n/model-summary";
import { useTranslate } from "../../i18n/translate";
import type { DataRow, ModelCard } from "../../lib/api-types";
import { paths } from "../../lib/router";
import { useStore } from "../../lib/store";
import { useFetch } from "../../lib/use-fetch";
import { modelList } from "../../stores/model-list";
import { Logo } from "../ui/logo";
import { TagList } from "../ui/tag-list";

interface Props {
  model: string;
  onSendExample: (text: string) => void;
}

export function Greeting({ model, onSendExample }: Props) {
  const t = useTranslate();
  const format = useFormat();
  const known = useStore(modelList).find(({ name }) => name === model);
  const isClassifier = known?.task === "label";
  return (
    <div className="greeting">
      <Logo size={44} />
      <p className="greeting-title">
        {isClassifier ? t("labelGreeting", format.integer(known.labels ?? 0)) : t("greeting")}
      </p>
      {known && (
        <p className="small">
          {modelSummary(known, t, format)}
          {known.kind !== "path" && (
            <>
              {" · "}
              <a href={`#${paths.model(model)}`}>{t("aboutModel")}</a>
            </>
          )}
        </p>
      )}
      {isClassifier && <LabelsAndExamples key={model} model={model} onSendExample={onSendExample} />}
    </div>
  );
}

const NUM_EXAMPLES = 3;
const MAX_EXAMPLE_LENGTH = 240;
/** A task may have hundreds of labels. */
const MAX_LABELS = 24;

/** The model's labels, and test rows to try. */
function LabelsAndExamples({ model, onSendExample }: Props) {
  const t = useTranslate();
  const format = useFormat();
  const path = `/api/models/${encodeURIComponent(model)}`;
  const labels = useFetch<ModelCard>(path).data?.label_names ?? [];
  const rows = useFetch<{ rows: DataRow[] }>(`${path}/rows?part=test`).data?.rows ?? [];
  const examples = pickExamples(rows);
  const numHidden = labels.length - MAX_LABELS;
  return (
    <>
      <TagList
        tags={labels.slice(0, MAX_LABELS)}
        more={numHidden > 0 ? t("andMore", format.integer(numHidden)) : undefined}
      />
      {examples.length > 0 && (
        <section className="examples">
          <h2>{t("examples")}</h2>
          {examples.map((text) => (
            <button key={text} type="button" onClick={() => onSendExample(text)}>
              {text}
            </button>
          ))}
        </section>
      )}
    </>
  );
}

/** Short texts of rows, those with different labels first. */
function pickExamples(rows: DataRow[]): string[] {
  const seenLabels = new Set<unknown>();
  const first: string[] = [];
  const rest: string[] = [];
  for (const { fields } of rows) {
    const { text, label } = fields;
    if (typeof text !== "string" || text.length > MAX_EXAMPLE_LENGTH) continue;
    (seenLabels.has(label) ? rest : first).push(text);
    seenLabels.add(label);
  }
  return [...first, ...rest].slice(0, NUM_EXAMPLES);
}
