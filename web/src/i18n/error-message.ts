// Error messages in the chosen language. Errors without a translation show the server's own sentence.

import { ApiError } from "../lib/api";
import type { MessageKey } from "./en";
import type { Translate } from "./translate";

const BY_CODE: Record<string, MessageKey> = {
  conversation_not_found: "conversationNotFound",
  model_not_found: "modelNotFound",
  message_not_found: "answerNotFound",
  queue_full: "serverBusy",
  store: "storeError",
  unavailable: "modelUnavailable",
  internal: "internalError",
};

export function errorMessage(error: unknown, t: Translate): string {
  if (!(error instanceof ApiError) || error.status === 0) return t("serverUnreachable");
  if (error.code === "context_length_exceeded") {
    const [tokens, limit] = error.message.match(/\d[\d,]*/g) ?? [];
    if (tokens && limit) return t("contextExceeded", tokens, limit);
  }
  if (error.status === 401) return t("sessionEnded");
  const key = BY_CODE[error.code];
  return key ? t(key) : error.message;
}
