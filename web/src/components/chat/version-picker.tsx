// Steps through the versions of a message: edited questions, regenerated answers.

import { ChevronLeft, ChevronRight } from "lucide-react";
import { useTranslate } from "../../i18n/translate";
import { selectVersion, versionsOf } from "../../stores/conversations";
import { IconButton } from "../ui/icon-button";
import type { MessageProps } from "./message-props";

export function VersionPicker({ conversationId, conversation, message }: MessageProps) {
  const t = useTranslate();
  const versions = versionsOf(conversation, message);
  if (versions.length < 2) return null;
  const index = versions.findIndex((version) => version.id === message.id);
  const previous = versions[index - 1];
  const next = versions[index + 1];
  const isGenerating = conversation.streaming !== null;
  return (
    <span className="versions">
      <IconButton
        label={t("previousVersion")}
        icon={<ChevronLeft />}
        disabled={isGenerating || !previous}
        onClick={() => previous && selectVersion(conversationId, previous)}
      />
      <span>{t("versionOf", index + 1, versions.length)}</span>
      <IconButton
        label={t("nextVersion")}
        icon={<ChevronRight />}
        disabled={isGenerating || !next}
        onClick={() => next && selectVersion(conversationId, next)}
      />
    </span>
  );
}
