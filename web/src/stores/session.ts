// The signed-in session, and the names of the models that it can ask.

import { request } from "../lib/api";
import type { Session } from "../lib/api-types";
import { Store } from "../lib/store";
import { clearDrafts } from "./drafts";
import { refreshModelList } from "./model-list";

export const session = new Store<Session>({ version: "", models: [], key: "" });

/** The key that owns a session's conversations. Sessions that a link opened share those of the first key. */
export function ownerOf(key: string): string {
  return key === "link" || key === "unattended" ? "first" : key;
}

export async function refreshSession(): Promise<void> {
  const [current] = await Promise.all([request<Session>("GET", "/api/me"), refreshModelList()]);
  const previousKey = session.get().key;
  if (previousKey && ownerOf(previousKey) !== ownerOf(current.key)) {
    clearDrafts(); // another user has signed in: nothing that this page holds is theirs
    location.reload();
    return;
  }
  session.set(current);
}
