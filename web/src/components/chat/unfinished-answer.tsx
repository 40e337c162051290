// An answer that is being received, and what was received of one that was interrupted.

import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { StreamingAnswer } from "../../stores/conversations";
import { Markdown } from "../markdown/markdown";
import { CopyButton } from "../ui/copy-button";

/** A rate that was measured over less time than this is not shown. */
const MIN_RATE_SECONDS = 0.3;

export function StreamingAnswerView({ model, answer }: { model: string; answer: StreamingAnswer }) {
  const t = useTranslate();
  const format = useFormat();
  const unsavedQuestion = answer.question === null ? answer.content : null;
  const seconds = answer.firstTokenAt === null ? 0 : (performance.now() - answer.firstTokenAt) / 1000;
  const stats: string[] = [];
  if (answer.tokens > 0) stats.push(t("tokenCount", format.integer(answer.tokens)));
  if (seconds > MIN_RATE_SECONDS) stats.push(t("tokensPerSecond", format.integer((answer.tokens - 1) / seconds)));
  return (
    <>
      {unsavedQuestion !== null && (
        <article className="question" aria-label={t("you")}>
          <div className="bubble">{unsavedQuestion}</div>
        </article>
      )}
      <article className="answer streaming" aria-label={t("answerFrom", model)} aria-busy="true">
        {answer.text ? <Markdown text={answer.text} /> : <p className="pending">{t("generating")}</p>}
        <div className="actions">
          <span className="answer-stats">{stats.join(" · ")}</span>
        </div>
      </article>
    </>
  );
}

export function InterruptedAnswer({ model, text }: { model: string; text: string }) {
  const t = useTranslate();
  return (
    <article className="answer" aria-label={t("answerFrom", model)}>
      <Markdown text={text} />
      <div className="actions">
        <CopyButton text={text} label="copyAnswer" />
        <span className="answer-stats">{t("interrupted")}</span>
      </div>
    </article>
  );
}
