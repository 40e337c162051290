// Who is signed in, and which models answer now: a specialist may have been made since.

import { call } from "./api";
import { readBriefs } from "./briefs";
import { forgetDrafts } from "./drafts";
import { Watched } from "./external";
import type { Me } from "./types";

export const me = new Watched<Me>({ version: "", models: [], key: "" });

/** Whose conversations a key's are: those who came by a link share them with the first key. */
export function ownerOf(key: string): string {
  return key === "link" || key === "unattended" ? "first" : key;
}

export async function readMe(): Promise<void> {
  const [found] = await Promise.all([call<Me>("GET", "/api/me"), readBriefs()]);
  const before = me.get().key;
  if (before && ownerOf(before) !== ownerOf(found.key)) {
    forgetDrafts(); // another one than before sits here: nothing that this page holds is theirs
    location.reload();
    return;
  }
  me.set(found);
}
