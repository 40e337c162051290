// A question of the user, which can be edited into a new version.

import { Pencil } from "lucide-react";
import { useState, type FormEvent, type KeyboardEvent } from "react";
import { useTranslate } from "../../i18n/translate";
import { askQuestion } from "../../stores/generation";
import { CopyButton } from "../ui/copy-button";
import { IconButton } from "../ui/icon-button";
import type { MessageProps } from "./message-props";
import { VersionPicker } from "./version-picker";

/** Open the last question on screen for editing. */
export function editLastQuestion(): void {
  [...document.querySelectorAll<HTMLButtonElement>("button[data-edit]")].at(-1)?.click();
}

export function Question({ conversationId, conversation, message }: MessageProps) {
  const t = useTranslate();
  const [isEditing, setIsEditing] = useState(false);
  const isGenerating = conversation.streaming !== null;
  if (isEditing)
    return (
      <QuestionEditor
        text={message.content}
        isGenerating={isGenerating}
        onClose={() => setIsEditing(false)}
        onSend={(text) => void askQuestion(conversationId, text, message.parent)}
      />
    );
  return (
    <article className="question" aria-label={t("you")}>
      <div className="bubble">{message.content}</div>
      <div className="actions">
        <VersionPicker conversationId={conversationId} conversation={conversation} message={message} />
        <CopyButton text={message.content} />
        <IconButton
          label={t("edit")}
          icon={<Pencil />}
          disabled={isGenerating}
          data-edit
          onClick={() => setIsEditing(true)}
        />
      </div>
    </article>
  );
}

interface EditorProps {
  text: string;
  /** Nothing can be sent while an answer is being generated. */
  isGenerating: boolean;
  onClose: () => void;
  onSend: (text: string) => void;
}

function QuestionEditor({ text, isGenerating, onClose, onSend }: EditorProps) {
  const t = useTranslate();
  const handleSubmit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const edited = String(new FormData(event.currentTarget).get("text")).trim();
    if (!edited || isGenerating) return;
    onClose();
    onSend(edited);
  };
  const handleKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.key === "Escape") {
      event.preventDefault();
      onClose();
      document.getElementById("composer-input")?.focus();
    } else if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      event.currentTarget.form?.requestSubmit();
    }
  };
  return (
    <form className="question-editor" onSubmit={handleSubmit}>
      <textarea
        name="text"
        aria-label={t("editQuestion")}
        defaultValue={text}
        rows={4}
        autoFocus
        onKeyDown={handleKeyDown}
      />
      <div className="row align-end">
        <button type="button" onClick={onClose}>
          {t("cancel")}
        </button>
        <button type="submit" className="primary" disabled={isGenerating}>
          {t("send")}
        </button>
      </div>
    </form>
  );
}
