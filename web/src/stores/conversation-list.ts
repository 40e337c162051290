// The list of conversations, newest first, and what is searched for in it.

import { call } from "./api";
import { Watched } from "./external";
import type { Heading } from "./types";

interface Headings {
  items: Heading[];
  more: boolean;
  search: string;
  loaded: boolean;
}

interface Page {
  conversations: Heading[];
  more: boolean;
}

export const headings = new Watched<Headings>({ items: [], more: false, search: "", loaded: false });

export async function refresh(): Promise<void> {
  const { search } = headings.get();
  const page = await read(search, null);
  if (headings.get().search !== search) return; // somebody typed on
  headings.set({ items: page.conversations, more: page.more, search, loaded: true });
}

export async function search(words: string): Promise<void> {
  headings.update((now) => ({ ...now, search: words }));
  await refresh();
}

export async function showMore(): Promise<void> {
  const { items, search } = headings.get();
  const page = await read(search, items.at(-1)?.updated_at ?? null);
  if (headings.get().search !== search) return;
  const known = new Set(items.map((one) => one.id));
  const added = page.conversations.filter((one) => !known.has(one.id));
  headings.update((now) => ({ ...now, items: [...items, ...added], more: page.more }));
}

function read(search: string, before: string | null): Promise<Page> {
  const query = new URLSearchParams();
  if (search) query.set("search", search);
  if (before) query.set("before", before);
  return call<Page>("GET", `/api/conversations?${query}`);
}
