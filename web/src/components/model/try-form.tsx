// One question to one model, and its answer; nothing of it is kept.

import { useState, type FormEvent } from "react";
import { call } from "../lib/api";
import { useNumbers, useSay } from "../lib/say";
import { told } from "../lib/told";
import type { Facts } from "../lib/types";
import { Labels } from "./labels";
import { Markdown } from "./markdown";

interface Completion {
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

const LONGEST = 300;

export function TryBox({ model }: { model: string }) {
  const say = useSay();
  const numbers = useNumbers();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [answer, setAnswer] = useState<{ text: string; facts: Facts; seconds: number } | null>(null);

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const content = String(new FormData(event.currentTarget).get("text")).trim();
    if (!content || busy) return;
    setBusy(true);
    setProblem("");
    const began = performance.now();
    try {
      const messages = [{ role: "user", content }];
      const asked = {
        model,
        messages,
        temperature: 0,
        max_tokens: LONGEST,
        repetition_penalty: 1.1,
        logprobs: true,
        top_logprobs: 5,
      };
      const { choices, usage } = await call<Completion>("POST", "/v1/chat/completions", asked);
      const [{ message, confidence, out_of_scope, logprobs }] = choices;
      const facts: Facts = { completion_tokens: usage.completion_tokens };
      if (confidence !== undefined) {
        facts.confidence = confidence;
        facts.out_of_scope = out_of_scope ?? false;
        facts.labels = (logprobs?.content[0]?.top_logprobs ?? []).map((one) => ({
          label: one.token,
          logprob: one.logprob,
        }));
      }
      setAnswer({ text: message.content ?? "", facts, seconds: (performance.now() - began) / 1000 });
    } catch (error) {
      setProblem(told(error, say));
    } finally {
      setBusy(false);
    }
  }

  return (
    <form className="try" onSubmit={(event) => void submit(event)}>
      <textarea name="text" rows={3} aria-label={say("tryText")} placeholder={say("tryText")} required />
      <div className="row">
        <button type="submit" className="primary" disabled={busy}>
          {busy ? say("thinking") : say("askIt")}
        </button>
        <span className="small" role="status">
          {answer &&
            !busy &&
            `${say("tokens", numbers.count(answer.facts.completion_tokens ?? 0))} · ${numbers.seconds(answer.seconds)}`}
        </span>
      </div>
      <p className="error" role="alert">
        {problem}
      </p>
      {answer && (
        <div className="tried" aria-busy={busy}>
          {answer.facts.confidence === undefined ? (
            <Markdown text={answer.text} />
          ) : (
            <Labels answer={answer.text} facts={answer.facts} />
          )}
        </div>
      )}
    </form>
  );
}
