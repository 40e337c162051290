// The line below an answer: model, tokens, speed, and why it ended early.

import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { AnswerFacts } from "../../lib/api-types";

export function AnswerStats({ facts }: { facts: AnswerFacts }) {
  const t = useTranslate();
  const format = useFormat();
  const parts = [facts.model ?? ""];
  if (facts.completion_tokens !== undefined) parts.push(t("tokenCount", format.integer(facts.completion_tokens)));
  if (facts.tokens_per_s) parts.push(t("tokensPerSecond", format.rate(facts.tokens_per_s)));
  if (facts.first_token_s) parts.push(t("firstTokenAfter", format.duration(facts.first_token_s)));
  if (facts.prompt_tokens !== undefined) parts.push(t("promptTokens", format.integer(facts.prompt_tokens)));
  if (facts.finish_reason === "cancelled") parts.push(t("stopped"));
  if (facts.finish_reason === "length") parts.push(t("lengthLimit"));
  return <span className="answer-stats">{parts.filter(Boolean).join(" · ")}</span>;
}
