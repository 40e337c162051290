// One question to a model and its answer. Nothing of it is saved.

import { useState, type FormEvent } from "react";
import { errorMessage } from "../../i18n/error-message";
import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import { request } from "../../lib/api";
import type { AnswerFacts } from "../../lib/api-types";
import { LabelAnswer } from "../chat/label-answer";
import { Markdown } from "../markdown/markdown";
import { FormError } from "../ui/form-error";

const MAX_TOKENS = 300;

interface ChatCompletion {
  choices: [
    {
      message: { content: string | null };
      confidence?: number;
      out_of_scope?: boolean;
      logprobs: { content: { top_logprobs: { token: string; logprob: number }[] }[] } | null;
    },
  ];
  usage: { completion_tokens: number };
}

interface TriedAnswer {
  text: string;
  facts: AnswerFacts;
  seconds: number;
}

export function TryForm({ model }: { model: string }) {
  const t = useTranslate();
  const format = useFormat();
  const [isGenerating, setIsGenerating] = useState(false);
  const [error, setError] = useState("");
  const [answer, setAnswer] = useState<TriedAnswer | null>(null);

  async function handleSubmit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const content = String(new FormData(event.currentTarget).get("text")).trim();
    if (!content || isGenerating) return;
    setIsGenerating(true);
    setError("");
    try {
      setAnswer(await complete(model, content));
    } catch (caught) {
      setError(errorMessage(caught, t));
    } finally {
      setIsGenerating(false);
    }
  }

  return (
    <form className="try-form" onSubmit={(event) => void handleSubmit(event)}>
      <textarea name="text" rows={3} aria-label={t("tryPlaceholder")} placeholder={t("tryPlaceholder")} required />
      <div className="row">
        <button type="submit" className="primary" disabled={isGenerating}>
          {t(isGenerating ? "generating" : "ask")}
        </button>
        <span className="small" role="status">
          {answer &&
            !isGenerating &&
            `${t("tokenCount", format.integer(answer.facts.completion_tokens ?? 0))} · ${format.duration(answer.seconds)}`}
        </span>
      </div>
      <FormError message={error} />
      {answer && (
        <div className="try-answer" aria-busy={isGenerating}>
          {answer.facts.confidence === undefined ? (
            <Markdown text={answer.text} />
          ) : (
            <LabelAnswer label={answer.text} facts={answer.facts} />
          )}
        </div>
      )}
    </form>
  );
}

async function complete(model: string, content: string): Promise<TriedAnswer> {
  const startedAt = performance.now();
  const { choices, usage } = await request<ChatCompletion>("POST", "/v1/chat/completions", {
    model,
    messages: [{ role: "user", content }],
    temperature: 0,
    max_tokens: MAX_TOKENS,
    repetition_penalty: 1.1,
    logprobs: true,
    top_logprobs: 5,
  });
  const [{ message, confidence, out_of_scope, logprobs }] = choices;
  const facts: AnswerFacts = { completion_tokens: usage.completion_tokens };
  if (confidence !== undefined) {
    facts.confidence = confidence;
    facts.out_of_scope = out_of_scope ?? false;
    facts.labels = (logprobs?.content[0]?.top_logprobs ?? []).map(({ token, logprob }) => ({ label: token, logprob }));
  }
  return { text: message.content ?? "", facts, seconds: (performance.now() - startedAt) / 1000 };
}
