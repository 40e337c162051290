// What went wrong, in the chosen language: the server's own sentence where the page knows no better one.

import { ApiError } from "./api";
import type { Say } from "./say";
import type { Words } from "./words";

const BY_CODE: Record<string, keyof Words> = {
  conversation_not_found: "notFound",
  model_not_found: "modelGone",
  message_not_found: "answerGone",
  queue_full: "busy",
  store: "storeFails",
  unavailable: "unavailable",
  internal: "mistake",
};

export function told(error: unknown, say: Say): string {
  if (!(error instanceof ApiError) || error.status === 0) return say("lost");
  if (error.code === "context_length_exceeded") {
    const [asked, most] = error.message.match(/\d[\d,]*/g) ?? [];
    if (asked && most) return say("tooLong", asked, most);
  }
  if (error.status === 401) return say("signedOut");
  const known = BY_CODE[error.code];
  return known ? say(known) : error.message;
}
