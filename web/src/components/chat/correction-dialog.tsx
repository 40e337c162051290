// Asks for the right answer, or the right label. A correction becomes a row for tuning.

import { useEffect, useState } from "react";
import { useTranslate } from "../../i18n/translate";
import { request } from "../../lib/api";
import type { Message, ModelCard } from "../../lib/api-types";
import { saveFeedback } from "../../stores/conversations";
import { showError } from "../../stores/toast";
import { PromptDialog } from "../ui/prompt-dialog";

interface Props {
  conversationId: string;
  message: Message;
  open: boolean;
  onClose: () => void;
}

export function CorrectionDialog({ conversationId, message, open, onClose }: Props) {
  const t = useTranslate();
  const { id, content, facts, verdict: rating, correction } = message;
  const isLabel = facts.confidence !== undefined;
  const labels = useLabels(open && isLabel ? (facts.model ?? null) : null);
  // A correction equal to the answer means that it is right. Any other keeps a rating that was given.
  const save = (text: string): Promise<void> =>
    text === content.replace(/\r\n?/g, "\n").trim()
      ? saveFeedback(conversationId, id, "up", null)
      : saveFeedback(conversationId, id, rating ?? "down", text);
  return (
    <PromptDialog
      open={open}
      onClose={onClose}
      title={t(isLabel ? "labelCorrectionTitle" : "correctionTitle")}
      description={t("correctionHelp")}
      label={t(isLabel ? "correctLabel" : "correctionTitle")}
      defaultValue={correction ?? content}
      lines={isLabel ? 1 : 8}
      options={isLabel ? labels : []}
      onSave={(text) => save(text.trim())}
      extraAction={
        correction !== null && (
          <button
            type="button"
            className="subtle"
            onClick={() => {
              onClose();
              void saveFeedback(conversationId, id, rating, null).catch(showError);
            }}
          >
            {t("removeCorrection")}
          </button>
        )
      }
    />
  );
}

/** Fetch all labels of a model; none for null. */
function useLabels(model: string | null): string[] {
  const [labels, setLabels] = useState<string[]>([]);
  useEffect(() => {
    if (!model) return;
    request<ModelCard>("GET", `/api/models/${encodeURIComponent(model)}`).then(
      (card) => setLabels(card.label_names ?? []),
      showError,
    );
  }, [model]);
  return labels;
}
