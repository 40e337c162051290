// The conversations that this page holds. An answer goes on being received while another conversation is shown.

import { ApiError, asProblem, call, stream } from "./api";
import { forgetDrafts, keepDraft } from "./drafts";
import { Watched } from "./external";
import { refresh } from "./headings";
import { failed } from "./notice";
import type { Conversation, Heading, Message, Settings, Verdict } from "./types";

/** An answer on its way. `question` is null until the server has kept it. */
export interface Live {
  parent: number | null;
  content: string | null;
  question: Message | null;
  text: string;
  tokens: number;
  promptTokens: number;
  firstAt: number | null;
  stopping: boolean;
}

/** A failed question: what was wrong, its words unless the server has kept them, and what came of the answer. */
export interface Failed {
  problem: ApiError;
  content: string | null;
  parent: number | null;
  text: string;
}

export interface Talk {
  heading: Heading | null;
  messages: Message[];
  live: Live | null;
  failed: Failed | null;
  missing: boolean;
}

const EMPTY: Talk = { heading: null, messages: [], live: null, failed: null, missing: false };
const talks = new Map<string, Watched<Talk>>();

export function talkOf(id: string): Watched<Talk> {
  let found = talks.get(id);
  if (!found) talks.set(id, (found = new Watched(EMPTY)));
  return found;
}

export async function load(id: string, tries = 4): Promise<void> {
  const talk = talkOf(id);
  if (talk.get().live) return;
  try {
    const { messages, ...heading } = await call<Conversation>("GET", `/api/conversations/${id}`);
    if (talk.get().live) return;
    // What could not be sent is nowhere but here.
    const unsent = (now: Talk): Failed | null => (now.failed?.content ? now.failed : null);
    talk.update((now) => ({ ...now, heading, messages, missing: false, failed: unsent(now) }));
    // Who loads the page while an answer is written comes before the server has kept what there was of it.
    const waits = messages.some((one) => one.id === heading.leaf && one.role === "user");
    if (waits && tries > 0) setTimeout(() => void load(id, tries - 1), 400);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) talk.update((now) => ({ ...now, missing: true }));
    else throw error;
  }
}

export async function begin(model: string, settings: Settings): Promise<string> {
  const made = await call<Conversation>("POST", "/api/conversations", { model, settings });
  const { messages, ...heading } = made;
  talkOf(made.id).set({ ...EMPTY, heading, messages });
  return made.id;
}

/** The messages that are shown: from the first to the leaf, or to the question that is being answered. */
export function shown(talk: Talk): Message[] {
  const byId = new Map(talk.messages.map((one) => [one.id, one]));
  const path: Message[] = [];
  const { live } = talk;
  let at = live ? (live.question?.id ?? live.parent) : (talk.heading?.leaf ?? null);
  while (at !== null) {
    const one = byId.get(at);
    if (!one) break;
    path.push(one);
    at = one.parent;
  }
  return path.reverse();
}

export function siblings(talk: Talk, message: Message): Message[] {
  return talk.messages.filter((one) => one.parent === message.parent && one.role === message.role);
}

/** Show another version of a message: the newest branch that goes through it. */
export function turnTo(id: string, message: Message): void {
  const talk = talkOf(id);
  let leaf = message;
  for (;;) {
    const next = talk.get().messages.findLast((one) => one.parent === leaf.id);
    if (!next) break;
    leaf = next;
  }
  talk.update((now) => ({ ...now, heading: now.heading && { ...now.heading, leaf: leaf.id } }));
  call("PATCH", `/api/conversations/${id}`, { leaf: leaf.id }).catch(failed);
}

/** Ask `content` behind `parent`; without content, the question `parent` again. */
export async function ask(id: string, content: string | null, parent: number | null): Promise<void> {
  const talk = talkOf(id);
  if (talk.get().live) return;
  const live: Live = {
    parent, content, question: null, text: "", tokens: 0, promptTokens: 0, firstAt: null, stopping: false,
  }; // prettier-ignore
  talk.update((now) => ({ ...now, live, failed: null }));
  let text = "";
  let tokens = 0;
  let firstAt: number | null = null;
  let frame = 0;
  const show = (): void => {
    frame = 0;
    talk.update((now) => (now.live ? { ...now, live: { ...now.live, text, tokens, firstAt } } : now));
  };
  try {
    await settled(id);
    let ended = false;
    for await (const event of stream(`/api/conversations/${id}/answers`, { content, parent })) {
      if ("error" in event) throw new ApiError(500, event.error.message, event.error.code ?? "");
      if (event.type === "begin") {
        const { question, prompt_tokens: promptTokens } = event;
        talk.update((now) => ({
          ...now,
          messages: [...now.messages.filter((one) => one.id !== question.id), question],
          live: now.live && { ...now.live, question, promptTokens },
        }));
        refresh().catch(() => undefined); // the answer itself says whether the server is there
      } else if (event.type === "text") {
        firstAt ??= performance.now();
        text += event.text;
        tokens = event.tokens;
        frame ||= requestAnimationFrame(show);
      } else {
        const { answer } = event;
        ended = true;
        cancelAnimationFrame(frame);
        talk.update((now) => ({
          ...now,
          live: null,
          messages: [...now.messages, answer],
          heading: now.heading && { ...now.heading, leaf: answer.id },
        }));
      }
    }
    if (!ended) throw new ApiError(0, "");
    refresh().catch(failed);
  } catch (error) {
    cancelAnimationFrame(frame);
    const problem = asProblem(error);
    const kept = talk.get().live?.question ?? null;
    if (!kept && content) keepDraft(id, content);
    const broken: Failed = { problem, content: kept ? null : content, parent: kept?.id ?? parent, text };
    talk.update((now) => ({
      ...now,
      live: null,
      failed: broken,
      heading: now.heading && { ...now.heading, leaf: kept?.id ?? now.heading.leaf },
    }));
  }
}

/** Once more what failed; what the server has kept of it since is shown beside. */
export async function askAgain(id: string, one: Failed): Promise<void> {
  try {
    await load(id, 0);
  } catch (error) {
    talkOf(id).update((now) => ({ ...now, failed: { ...one, problem: asProblem(error) } }));
    return;
  }
  if (talkOf(id).get().missing) return;
  await ask(id, one.content, one.parent);
}

export async function stop(id: string): Promise<void> {
  const talk = talkOf(id);
  talk.update((now) => (now.live ? { ...now, live: { ...now.live, stopping: true } } : now));
  try {
    const { stopped } = await call<{ stopped: number }>("POST", `/api/conversations/${id}/stop`, {});
    if (stopped > 0) return; // otherwise the question has not arrived yet
  } catch (error) {
    failed(error);
  }
  talk.update((now) => (now.live ? { ...now, live: { ...now.live, stopping: false } } : now));
}

const settling = new Map<string, number>();

/** Settings are shown at once and sent when the slider rests. */
export function set(id: string, changed: Partial<Settings>): void {
  talkOf(id).update((now) => {
    const heading = now.heading && { ...now.heading, settings: { ...now.heading.settings, ...changed } };
    return { ...now, heading };
  });
  clearTimeout(settling.get(id));
  settling.set(
    id,
    window.setTimeout(() => void settled(id).catch(failed), 400),
  );
}

async function settled(id: string): Promise<void> {
  if (!settling.delete(id)) return;
  const settings = talkOf(id).get().heading?.settings;
  if (settings) await call("PATCH", `/api/conversations/${id}`, { settings });
}

export async function change(id: string, changes: Partial<Pick<Heading, "title" | "model">>): Promise<void> {
  const talk = talkOf(id);
  const before = talk.get().heading;
  talk.update((now) => ({ ...now, heading: now.heading && { ...now.heading, ...changes } }));
  try {
    await call("PATCH", `/api/conversations/${id}`, changes);
  } catch (error) {
    talk.update((now) => ({ ...now, heading: now.heading && { ...now.heading, ...before } }));
    throw error;
  }
  if (changes.title !== undefined) await refresh();
}

export async function judge(id: string, message: number, verdict: Verdict, correction: string | null): Promise<void> {
  const judged = await call<Message>("PUT", `/api/messages/${message}/feedback`, { verdict, correction });
  talkOf(id).update((now) => ({ ...now, messages: now.messages.map((one) => (one.id === message ? judged : one)) }));
}

export async function remove(id: string): Promise<void> {
  await call("DELETE", `/api/conversations/${id}`);
  talks.delete(id);
  keepDraft(id, "");
  await refresh();
}

export async function removeAll(): Promise<void> {
  await call("DELETE", "/api/conversations");
  talks.clear();
  forgetDrafts();
  await refresh();
}
