// Names and conclusions of an evaluation. The server sends them as the command line prints them, in English.

import type { MetricValue, SystemScore } from "../lib/api-types";
import type { MessageKey } from "./en";
import type { Format } from "./format";
import type { Translate } from "./translate";

const METRICS: Record<string, MessageKey> = {
  accuracy: "accuracy",
  "macro-F1": "macroF1",
  "exact match": "exactMatch",
  "word overlap": "wordOverlap",
  "finds the chosen answer likelier": "prefersChosen",
  "more than its base": "moreThanBase",
};
const SYSTEMS: Record<string, MessageKey> = {
  "base, no examples": "baseZeroShot",
  "TF-IDF + logistic regression": "linearBaseline",
  "frozen embeddings + logistic regression": "embeddingBaseline",
  "TF-IDF + linear SVM": "svmBaseline",
  "text embeddings + logistic regression": "textEmbeddingBaseline",
  "language model alone": "languageModelAlone",
  "line tagger (logistic regression)": "taggerBaseline",
};
/** Metrics that come first and decide the conclusion, where they were measured. */
const MAIN_METRICS = ["accuracy", "exact match"];
const SIGNIFICANCE_LEVEL = 0.05;
const SMALLEST_P = 0.0001;

/** Fields of JSON answers are metrics too; they keep their names. */
export function metricName(name: string, t: Translate): string {
  const key = METRICS[name];
  return key ? t(key) : name;
}

export function systemName(name: string, t: Translate): string {
  const key = SYSTEMS[name];
  if (key) return t(key);
  const examples = /^base, (\d+) examples$/.exec(name)?.[1];
  return examples ? t("baseFewShot", examples) : name;
}

/** The names of all metrics, the main one first. */
export function metricNames(scores: SystemScore[]): string[] {
  const names = new Set(scores.flatMap((score) => Object.keys(score.metrics)));
  return [...MAIN_METRICS.filter((name) => names.delete(name)), ...names];
}

/** Who won, as the command line says it. Falls back to the server's sentence where the scores do not tell. */
export function conclusion(scores: SystemScore[], t: Translate, format: Format): string | null {
  const specialist = scores.at(-1);
  const metric = metricNames(scores)[0];
  const ours = specialist && metric ? specialist.metrics[metric] : undefined;
  if (!specialist || !metric || !ours) return specialist?.sentence ?? null;
  const withInterval = ({ value, low, high }: MetricValue): string =>
    t("valueAndInterval", format.percent(value), format.decimal(100 * low, 1), format.decimal(100 * high, 1));
  const rival = bestOf(scores.slice(0, -1), metric);
  if (!rival) return t("conclusionAlone", withInterval(ours));
  const p = specialist.p_values[rival.name];
  if (p === undefined) return specialist.sentence;
  const name = systemName(rival.name, t);
  const theirs = withInterval(rival.value);
  const pText = p < SMALLEST_P ? `p < ${format.decimal(SMALLEST_P, 4)}` : `p = ${format.decimal(p, p < 0.01 ? 4 : 2)}`;
  if (p >= SIGNIFICANCE_LEVEL)
    return t("conclusionEqual", withInterval(ours), name, theirs, format.integer(ours.rows), pText);
  return ours.value < rival.value.value
    ? t("conclusionLost", name, theirs, withInterval(ours), pText)
    : t("conclusionWon", withInterval(ours), theirs, name, pText);
}

function bestOf(scores: SystemScore[], metric: string): { name: string; value: MetricValue } | null {
  let best: { name: string; value: MetricValue } | null = null;
  for (const { name, metrics } of scores) {
    const value = metrics[metric];
    if (value && (!best || value.value > best.value.value)) best = { name, value };
  }
  return best;
}
