// The conversations that the page holds: their messages as a tree of versions, their settings, their ratings.

import { ApiError, request } from "../lib/api";
import type { Conversation, ConversationSummary, GenerationSettings, Message, Rating } from "../lib/api-types";
import { Store } from "../lib/store";
import { refreshConversationList } from "./conversation-list";
import { clearDrafts, draftOf } from "./drafts";
import { showError } from "./toast";

/** An answer that is being received. `question` is null until the server has saved it. */
export interface StreamingAnswer {
  parent: number | null;
  content: string | null;
  question: Message | null;
  text: string;
  tokens: number;
  firstTokenAt: number | null;
  isStopping: boolean;
}

/** A question whose answer failed. */
export interface FailedQuestion {
  error: ApiError;
  /** Whether the server has not saved the question. Its text is then in the draft. */
  isUnsent: boolean;
  parent: number | null;
  /** What was received of the answer. */
  partialAnswer: string;
}

export interface ConversationState {
  summary: ConversationSummary | null;
  messages: Message[];
  streaming: StreamingAnswer | null;
  failed: FailedQuestion | null;
  isMissing: boolean;
}

export const EMPTY_CONVERSATION: ConversationState = {
  summary: null,
  messages: [],
  streaming: null,
  failed: null,
  isMissing: false,
};
const conversations = new Map<string, Store<ConversationState>>();

export function conversationStore(id: string): Store<ConversationState> {
  let store = conversations.get(id);
  if (!store) conversations.set(id, (store = new Store(EMPTY_CONVERSATION)));
  return store;
}

export async function loadConversation(id: string, retries = 4): Promise<void> {
  const store = conversationStore(id);
  if (store.get().streaming) return;
  try {
    const { messages, ...summary } = await request<Conversation>("GET", `/api/conversations/${id}`);
    if (store.get().streaming) return;
    store.update((state) => ({
      ...state,
      summary,
      messages,
      isMissing: false,
      failed: state.failed?.isUnsent ? state.failed : null,
    }));
    // After a reload in the middle of an answer, the server needs a moment to save the part that it has.
    const isUnanswered = messages.some((message) => message.id === summary.leaf && message.role === "user");
    if (isUnanswered && retries > 0) setTimeout(() => void loadConversation(id, retries - 1), 400);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) store.update((state) => ({ ...state, isMissing: true }));
    else throw error;
  }
}

/** Create a conversation on the server; resolves to its id. */
export async function createConversation(model: string, settings: GenerationSettings): Promise<string> {
  const { messages, ...summary } = await request<Conversation>("POST", "/api/conversations", { model, settings });
  conversationStore(summary.id).set({ ...EMPTY_CONVERSATION, summary, messages });
  return summary.id;
}

/** The messages on screen: from the first to the leaf, or to the question that is being answered. */
export function visibleMessages({ summary, messages, streaming }: ConversationState): Message[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const branch: Message[] = [];
  let id = streaming ? (streaming.question?.id ?? streaming.parent) : (summary?.leaf ?? null);
  while (id !== null) {
    const message = byId.get(id);
    if (!message) break;
    branch.push(message);
    id = message.parent;
  }
  return branch.reverse();
}

/** All versions of a message, oldest first. */
export function versionsOf({ messages }: ConversationState, message: Message): Message[] {
  return messages.filter((other) => other.parent === message.parent && other.role === message.role);
}

/** Show another version of a message: the newest branch through it. */
export function selectVersion(id: string, message: Message): void {
  const store = conversationStore(id);
  let leaf = message;
  for (;;) {
    const reply = store.get().messages.findLast((other) => other.parent === leaf.id);
    if (!reply) break;
    leaf = reply;
  }
  updateSummary(id, { leaf: leaf.id });
  request("PATCH", `/api/conversations/${id}`, { leaf: leaf.id }).catch(showError);
}

export async function updateConversation(
  id: string,
  changes: Partial<Pick<ConversationSummary, "title" | "model">>,
): Promise<void> {
  const previous = conversationStore(id).get().summary;
  updateSummary(id, changes);
  try {
    await request("PATCH", `/api/conversations/${id}`, changes);
  } catch (error) {
    updateSummary(id, previous ?? {});
    throw error;
  }
  if (changes.title !== undefined) await refreshConversationList();
}

const settingsTimers = new Map<string, number>();

/** Show changed settings at once, and save them when they have not changed for a while. */
export function updateSettings(id: string, changes: Partial<GenerationSettings>): void {
  const settings = conversationStore(id).get().summary?.settings;
  if (settings) updateSummary(id, { settings: { ...settings, ...changes } });
  clearTimeout(settingsTimers.get(id));
  settingsTimers.set(
    id,
    window.setTimeout(() => void flushSettings(id).catch(showError), 400),
  );
}

/** Save changed settings now. */
export async function flushSettings(id: string): Promise<void> {
  if (!settingsTimers.delete(id)) return;
  const settings = conversationStore(id).get().summary?.settings;
  if (settings) await request("PATCH", `/api/conversations/${id}`, { settings });
}

export async function saveFeedback(
  id: string,
  messageId: number,
  rating: Rating,
  correction: string | null,
): Promise<void> {
  const body = { verdict: rating, correction };
  const saved = await request<Message>("PUT", `/api/messages/${messageId}/feedback`, body);
  conversationStore(id).update((state) => ({
    ...state,
    messages: state.messages.map((message) => (message.id === messageId ? saved : message)),
  }));
}

export async function deleteConversation(id: string): Promise<void> {
  await request("DELETE", `/api/conversations/${id}`);
  conversations.delete(id);
  draftOf(id).set("");
  await refreshConversationList();
}

export async function deleteAllConversations(): Promise<void> {
  await request("DELETE", "/api/conversations");
  conversations.clear();
  clearDrafts();
  await refreshConversationList();
}

function updateSummary(id: string, changes: Partial<ConversationSummary>): void {
  conversationStore(id).update((state) => ({ ...state, summary: state.summary && { ...state.summary, ...changes } }));
}
