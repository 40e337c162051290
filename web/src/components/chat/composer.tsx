// The message field. Enter sends its text, Shift+Enter starts a new line, Escape stops an answer.

import { ArrowUp, Square } from "lucide-react";
import { useEffect, useRef, type KeyboardEvent } from "react";
import { useTranslate } from "../../i18n/translate";
import { useStore } from "../../lib/store";
import { draftOf, takeDraft } from "../../stores/drafts";
import { editLastQuestion } from "./question";

interface Props {
  /** Key of the draft that the field edits: the conversation's id, or that of a new one. */
  draftKey: string;
  isDisabled: boolean;
  isGenerating: boolean;
  isStopping: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
}

export function Composer({ draftKey, isDisabled, isGenerating, isStopping, onSend, onStop }: Props) {
  const t = useTranslate();
  const draft = draftOf(draftKey);
  const text = useStore(draft);
  const textarea = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) textarea.current?.focus();
  }, []);
  useEffect(() => {
    if (!isGenerating) return;
    const handleKeyDown = (event: globalThis.KeyboardEvent): void => {
      const isForOthers = event.isComposing || event.target instanceof HTMLInputElement;
      if (event.key === "Escape" && !event.defaultPrevented && !isForOthers) onStop();
    };
    addEventListener("keydown", handleKeyDown);
    return () => removeEventListener("keydown", handleKeyDown);
  }, [isGenerating, onStop]);

  const send = (): void => {
    if (text.trim() && !isGenerating) onSend(takeDraft(draftKey));
  };
  const handleKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && !text) {
      event.preventDefault();
      editLastQuestion();
    }
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="auto-grow" data-text={`${text}\n`}>
        <textarea
          id="composer-input"
          ref={textarea}
          rows={1}
          value={text}
          placeholder={t("messagePlaceholder")}
          aria-label={t("messagePlaceholder")}
          enterKeyHint="send"
          disabled={isDisabled}
          onChange={(event) => draft.set(event.target.value)}
          onKeyDown={handleKeyDown}
        />
      </div>
      {isGenerating ? (
        <button
          type="button"
          className="send-button"
          aria-label={t("stop")}
          disabled={isStopping}
          onClick={() => {
            onStop();
            textarea.current?.focus();
          }}
        >
          <Square fill="currentColor" />
        </button>
      ) : (
        <button type="submit" className="send-button" aria-label={t("send")} disabled={!text.trim()}>
          <ArrowUp />
        </button>
      )}
    </form>
  );
}

/** Send what is in the message field, as its button does. */
export function submitComposer(): void {
  document.querySelector<HTMLFormElement>("form.composer")?.requestSubmit();
}
