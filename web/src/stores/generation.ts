// Asking questions and receiving answers. An answer is received even while another conversation is on screen.

import { ApiError, request, streamEvents, toApiError } from "../lib/api";
import { refreshConversationList } from "./conversation-list";
import {
  conversationStore,
  flushSettings,
  loadConversation,
  type FailedQuestion,
  type StreamingAnswer,
} from "./conversations";
import { restoreDraft, takeDraft } from "./drafts";
import { showError } from "./toast";

/** Ask `content` as a reply to message `parent`. Without content, answer the question `parent` again. */
export async function askQuestion(id: string, content: string | null, parent: number | null): Promise<void> {
  const store = conversationStore(id);
  if (store.get().streaming) return;
  let text = "";
  let tokens = 0;
  let firstTokenAt: number | null = null;
  let frame = 0;
  const updateStreaming = (changes: Partial<StreamingAnswer>): void =>
    store.update((state) => (state.streaming ? { ...state, streaming: { ...state.streaming, ...changes } } : state));
  const render = (): void => {
    frame = 0;
    updateStreaming({ text, tokens, firstTokenAt });
  };
  store.update((state) => ({
    ...state,
    streaming: { parent, content, question: null, text, tokens, firstTokenAt, isStopping: false },
    failed: null,
  }));
  try {
    await flushSettings(id);
    let isFinished = false;
    for await (const event of streamEvents(`/api/conversations/${id}/answers`, { content, parent })) {
      if ("error" in event) throw new ApiError(500, event.error.message, event.error.code ?? "");
      if (event.type === "begin") {
        const { question } = event;
        store.update((state) => ({
          ...state,
          messages: [...state.messages.filter((message) => message.id !== question.id), question],
          streaming: state.streaming && { ...state.streaming, question },
        }));
        refreshConversationList().catch(() => undefined); // a lost server shows in the answer itself
      } else if (event.type === "text") {
        firstTokenAt ??= performance.now();
        text += event.text;
        tokens = event.tokens;
        frame ||= requestAnimationFrame(render);
      } else {
        const { answer } = event;
        isFinished = true;
        cancelAnimationFrame(frame);
        store.update((state) => ({
          ...state,
          streaming: null,
          messages: [...state.messages, answer],
          summary: state.summary && { ...state.summary, leaf: answer.id },
        }));
      }
    }
    if (!isFinished) throw new ApiError(0, "");
    refreshConversationList().catch(showError);
  } catch (caught) {
    cancelAnimationFrame(frame);
    const question = store.get().streaming?.question ?? null;
    const isUnsent = !question && content !== null;
    if (isUnsent) restoreDraft(id, content);
    const failed: FailedQuestion = {
      error: toApiError(caught),
      isUnsent,
      parent: question?.id ?? parent,
      partialAnswer: text,
    };
    store.update((state) => ({
      ...state,
      streaming: null,
      failed,
      summary: state.summary && { ...state.summary, leaf: question?.id ?? state.summary.leaf },
    }));
  }
}

/** Ask a failed question again, after loading what the server has saved of it since. */
export async function retryQuestion(id: string, failed: FailedQuestion): Promise<void> {
  const store = conversationStore(id);
  try {
    await loadConversation(id, 0);
  } catch (caught) {
    store.update((state) => ({ ...state, failed: { ...failed, error: toApiError(caught) } }));
    return;
  }
  if (store.get().isMissing) return;
  const content = failed.isUnsent ? takeDraft(id) : null;
  if (content === "")
    store.update((state) => ({ ...state, failed: null })); // the user has deleted its text
  else await askQuestion(id, content, failed.parent);
}

export async function stopGeneration(id: string): Promise<void> {
  const store = conversationStore(id);
  const setStopping = (isStopping: boolean): void =>
    store.update((state) => (state.streaming ? { ...state, streaming: { ...state.streaming, isStopping } } : state));
  setStopping(true);
  try {
    const { stopped } = await request<{ stopped: number }>("POST", `/api/conversations/${id}/stop`, {});
    if (stopped > 0) return; // otherwise the question has not reached the server yet
  } catch (error) {
    showError(error);
  }
  setStopping(false);
}
