// The list of conversations, newest first, and its search.

import { request } from "../lib/api";
import type { ConversationSummary } from "../lib/api-types";
import { Store } from "../lib/store";

interface ConversationList {
  items: ConversationSummary[];
  hasMore: boolean;
  query: string;
  isLoaded: boolean;
}

interface ListPage {
  conversations: ConversationSummary[];
  more: boolean;
}

export const conversationList = new Store<ConversationList>({ items: [], hasMore: false, query: "", isLoaded: false });

export async function refreshConversationList(): Promise<void> {
  const { query } = conversationList.get();
  const page = await fetchPage(query, null);
  if (conversationList.get().query !== query) return; // the user typed on
  conversationList.set({ items: page.conversations, hasMore: page.more, query, isLoaded: true });
}

export async function searchConversations(query: string): Promise<void> {
  conversationList.update((list) => ({ ...list, query }));
  await refreshConversationList();
}

export async function loadMoreConversations(): Promise<void> {
  const { items, query } = conversationList.get();
  const page = await fetchPage(query, items.at(-1)?.updated_at ?? null);
  if (conversationList.get().query !== query) return;
  const known = new Set(items.map((item) => item.id));
  const added = page.conversations.filter((item) => !known.has(item.id));
  conversationList.update((list) => ({ ...list, items: [...items, ...added], hasMore: page.more }));
}

function fetchPage(query: string, before: string | null): Promise<ListPage> {
  const parameters = new URLSearchParams();
  if (query) parameters.set("search", query);
  if (before) parameters.set("before", before);
  return request<ListPage>("GET", `/api/conversations?${parameters}`);
}
