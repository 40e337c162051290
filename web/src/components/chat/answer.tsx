// An answer with its actions: copy, regenerate, rate, correct.

import { PenLine, RotateCcw, ThumbsDown, ThumbsUp } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslate } from "../../i18n/translate";
import { copyText } from "../../lib/clipboard";
import { saveFeedback } from "../../stores/conversations";
import { askQuestion } from "../../stores/generation";
import { showError } from "../../stores/toast";
import { Markdown } from "../markdown/markdown";
import { CopyButton } from "../ui/copy-button";
import { IconButton } from "../ui/icon-button";
import { AnswerStats } from "./answer-stats";
import { CorrectionDialog } from "./correction-dialog";
import { LabelAnswer } from "./label-answer";
import type { MessageProps } from "./message-props";
import { VersionPicker } from "./version-picker";

export function Answer({ conversationId, conversation, message }: MessageProps) {
  const t = useTranslate();
  const { id, content, facts, verdict: rating, correction } = message;
  const [isCorrecting, setIsCorrecting] = useState(false);
  const isGenerating = conversation.streaming !== null;
  const isLast = conversation.summary?.leaf === id && !isGenerating;
  const isLabel = facts.confidence !== undefined;
  const regenerate = (): void => void askQuestion(conversationId, null, message.parent);
  useAnswerShortcuts(isLast, content, isLabel ? null : regenerate);
  const toggleRating = (clicked: "up" | "down"): void =>
    void saveFeedback(conversationId, id, rating === clicked ? null : clicked, correction).catch(showError);
  return (
    <article className="answer" aria-label={t("answerFrom", facts.model ?? "")}>
      {isLabel ? <LabelAnswer label={content} facts={facts} /> : <Markdown text={content} />}
      {correction !== null && (
        <div className="correction">
          <p className="small">{t("corrected")}</p>
          {isLabel ? <p>{correction}</p> : <Markdown text={correction} />}
        </div>
      )}
      <div className="actions">
        <VersionPicker conversationId={conversationId} conversation={conversation} message={message} />
        <CopyButton text={content} label="copyAnswer" />
        {!isLabel && (
          <IconButton label={t("regenerate")} icon={<RotateCcw />} disabled={isGenerating} onClick={regenerate} />
        )}
        <IconButton
          label={t("goodAnswer")}
          icon={<ThumbsUp />}
          aria-pressed={rating === "up"}
          onClick={() => toggleRating("up")}
        />
        <IconButton
          label={t("badAnswer")}
          icon={<ThumbsDown />}
          aria-pressed={rating === "down"}
          onClick={() => toggleRating("down")}
        />
        <IconButton
          label={t("correctAnswer")}
          icon={<PenLine />}
          aria-pressed={correction !== null}
          onClick={() => setIsCorrecting(true)}
        />
        <AnswerStats facts={facts} />
      </div>
      <CorrectionDialog
        conversationId={conversationId}
        message={message}
        open={isCorrecting}
        onClose={() => setIsCorrecting(false)}
      />
    </article>
  );
}

/** Alt+R regenerates the last answer, Alt+C copies it. */
function useAnswerShortcuts(isLast: boolean, content: string, regenerate: (() => void) | null): void {
  useEffect(() => {
    if (!isLast) return;
    const handleKeyDown = (event: KeyboardEvent): void => {
      if (!event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.code === "KeyR" && regenerate) {
        event.preventDefault();
        regenerate();
      } else if (event.code === "KeyC") {
        event.preventDefault();
        void copyText(content);
      }
    };
    addEventListener("keydown", handleKeyDown);
    return () => removeEventListener("keydown", handleKeyDown);
  });
}
