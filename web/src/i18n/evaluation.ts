// Names and sentences of a comparison, which the server gives as the command line prints them.

import type { Numbers, Say } from "./say";
import type { Metric, Score } from "./types";
import type { Words } from "./words";

const MEASURES: Record<string, keyof Words> = {
  accuracy: "accuracy",
  "macro-F1": "macroF1",
  "exact match": "exactMatch",
  "word overlap": "wordOverlap",
  "finds the chosen answer likelier": "prefersChosen",
  "more than its base": "moreThanBase",
};
const CONTESTANTS: Record<string, keyof Words> = {
  "base, no examples": "baseAlone",
  "TF-IDF + logistic regression": "linearBaseline",
  "frozen embeddings + logistic regression": "embeddingBaseline",
  "line tagger (logistic regression)": "taggerBaseline",
};
/** What the sentence about a specialist speaks of, where it was measured. */
const HEADLINES = ["accuracy", "exact match"];
const TOLD_APART = 0.05;

/** Fields of JSON answers are measures too; they keep their names. */
export function measureName(name: string, say: Say): string {
  const known = MEASURES[name];
  return known ? say(known) : name;
}

export function contestantName(name: string, say: Say): string {
  const known = CONTESTANTS[name];
  if (known) return say(known);
  const shown = /^base, (\d+) examples$/.exec(name)?.[1];
  return shown ? say("baseShown", shown) : name;
}

/** The measures of a comparison, the one that counts most first. */
export function measures(scores: Score[]): string[] {
  const found = new Set(scores.flatMap((score) => Object.keys(score.metrics)));
  return [...HEADLINES.filter((one) => found.delete(one)), ...found];
}

/** Who won, as the command line says it; the server's own sentence where the figures do not say. */
export function verdict(scores: Score[], say: Say, numbers: Numbers): string | null {
  const own = scores.at(-1);
  const measure = measures(scores)[0];
  const ours = own && measure ? own.metrics[measure] : undefined;
  if (!own || !measure || !ours) return own?.sentence ?? null;
  const within = (metric: Metric): string =>
    say(
      "between",
      numbers.percent(metric.value),
      numbers.fixed(100 * metric.low, 1),
      numbers.fixed(100 * metric.high, 1),
    );
  const rivals = scores.slice(0, -1).flatMap((score) => {
    const metric = score.metrics[measure];
    return metric ? [{ score, metric }] : [];
  });
  const rival = rivals.reduce<(typeof rivals)[0] | null>(
    (best, one) => (best && best.metric.value >= one.metric.value ? best : one),
    null,
  );
  if (!rival) return say("verdictAlone", within(ours));
  const p = own.p_values[rival.score.name];
  if (p === undefined) return own.sentence;
  const name = contestantName(rival.score.name, say);
  if (p >= TOLD_APART)
    return say("verdictEqual", within(ours), name, within(rival.metric), numbers.count(ours.rows), chance(p, numbers));
  return ours.value < rival.metric.value
    ? say("verdictLost", name, within(rival.metric), within(ours), chance(p, numbers))
    : say("verdictWon", within(ours), within(rival.metric), name, chance(p, numbers));
}

const SMALLEST = 0.0001;

function chance(p: number, numbers: Numbers): string {
  return p < SMALLEST ? `p < ${numbers.fixed(SMALLEST, 4)}` : `p = ${numbers.fixed(p, p < 0.01 ? 4 : 2)}`;
}
