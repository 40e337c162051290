// Unsent text of each conversation, for as long as the tab is open. Unsent text is kept nowhere else.

import { Store } from "../lib/store";

/** Key of the draft of a conversation that does not exist yet. */
export const NEW_CONVERSATION = "new";

const PREFIX = "draft:";
const drafts = new Map<string, Store<string>>();

export function draftOf(conversation: string): Store<string> {
  let draft = drafts.get(conversation);
  if (!draft) {
    const key = PREFIX + conversation;
    const created = new Store(sessionStorage.getItem(key) ?? "");
    created.subscribe(() => persist(key, created.get()));
    drafts.set(conversation, (draft = created));
  }
  return draft;
}

/** Return the draft for sending, and clear it. */
export function takeDraft(conversation: string): string {
  const draft = draftOf(conversation);
  const text = draft.get().trim();
  draft.set("");
  return text;
}

/** Put back text that could not be sent, before anything that was typed since. */
export function restoreDraft(conversation: string, text: string): void {
  draftOf(conversation).update((typed) => (typed ? `${text}\n\n${typed}` : text));
}

export function clearDrafts(): void {
  for (const draft of drafts.values()) draft.set("");
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
}

function persist(key: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    sessionStorage.removeItem(key); // over the browser's quota: the draft lives in memory only
  }
}
