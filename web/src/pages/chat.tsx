// The chat page: one conversation, or a new one.

import { ArrowDown, Menu as MenuIcon } from "lucide-react";
import { useCallback, useEffect, useState } from "react";
import { Composer, submitComposer } from "../components/chat/composer";
import { Greeting } from "../components/chat/greeting";
import { MessageView } from "../components/chat/message";
import { ModelSelect } from "../components/chat/model-select";
import { SettingsPanel } from "../components/chat/settings-panel";
import { InterruptedAnswer, StreamingAnswerView } from "../components/chat/unfinished-answer";
import { useAutoScroll } from "../components/chat/use-auto-scroll";
import { IconButton } from "../components/ui/icon-button";
import { errorMessage } from "../i18n/error-message";
import { useTranslate } from "../i18n/translate";
import { DEFAULT_SETTINGS, type GenerationSettings } from "../lib/api-types";
import { markdownToText } from "../lib/markdown";
import { navigate, paths } from "../lib/router";
import { Store, useStore } from "../lib/store";
import {
  conversationStore,
  createConversation,
  EMPTY_CONVERSATION,
  loadConversation,
  updateConversation,
  updateSettings,
  visibleMessages,
  type ConversationState,
} from "../stores/conversations";
import { NEW_CONVERSATION, restoreDraft } from "../stores/drafts";
import { isDrawerOpen } from "../stores/drawer";
import { askQuestion, retryQuestion, stopGeneration } from "../stores/generation";
import { modelList } from "../stores/model-list";
import { lastModel } from "../stores/preferences";
import { showError } from "../stores/toast";

const newConversation = new Store(EMPTY_CONVERSATION);
/** Settings of the last conversation, with which the next one starts. */
const lastSettings = new Store(DEFAULT_SETTINGS);

interface Props {
  /** Null for a new conversation. */
  id: string | null;
  /** The model that the address asks for. */
  requestedModel: string | null;
  models: string[];
}

interface Failure {
  error: unknown;
  retry: () => void;
}

export function ChatPage({ id, requestedModel, models }: Props) {
  const t = useTranslate();
  const conversation = useStore(id ? conversationStore(id) : newConversation);
  const rememberedModel = useStore(lastModel);
  const rememberedSettings = useStore(lastSettings);
  /** Why the conversation could not be loaded or created. */
  const [failure, setFailure] = useState<Failure | null>(null);
  const { summary, streaming, failed, isMissing } = conversation;
  const defaultModel = models.includes(rememberedModel) ? rememberedModel : (models[0] ?? "");
  const model = summary?.model ?? requestedModel ?? defaultModel;
  const settings = { ...DEFAULT_SETTINGS, ...(summary?.settings ?? rememberedSettings) };
  const messages = visibleMessages(conversation);
  const modelFacts = useStore(modelList).find(({ name }) => name === model);
  const draftKey = id ?? NEW_CONVERSATION;

  useEffect(() => {
    const load = (): void => {
      setFailure(null);
      if (id) loadConversation(id).catch((error: unknown) => setFailure({ error, retry: load }));
    };
    load();
  }, [id]);
  useEffect(() => {
    document.title = summary?.title ? `${summary.title} · Empu` : "Empu";
  }, [summary?.title]);

  const selectModel = (name: string): void => {
    lastModel.set(name);
    if (id) updateConversation(id, { model: name }).catch(showError);
    else navigate(paths.newConversationWith(name), true);
  };
  const changeSettings = (changes: Partial<GenerationSettings>): void => {
    lastSettings.update((last) => ({ ...(id ? settings : last), ...changes }));
    if (id) updateSettings(id, changes);
  };
  const send = useCallback(
    async (content: string): Promise<void> => {
      setFailure(null);
      try {
        const target = id ?? (await createConversation(model, settings));
        const parent = visibleMessages(conversationStore(target).get()).at(-1)?.id ?? null;
        if (!id) navigate(paths.conversation(target), true);
        void askQuestion(target, content, parent);
      } catch (error) {
        restoreDraft(draftKey, content);
        setFailure({ error, retry: submitComposer });
      }
    },
    [id, model, settings],
  );

  const { scrollRef, endRef, scrollToEnd } = useAutoScroll(conversation);
  const lastMessage = messages.at(-1);
  const isEmpty = messages.length === 0 && !streaming;
  const isUnanswered = lastMessage?.role === "user" && !streaming && !failed;
  const couldNotLoad = failure !== null && id !== null && !summary;
  return (
    <div className="chat">
      <header className="chat-header">
        <IconButton
          className="mobile-only"
          label={t("menu")}
          icon={<MenuIcon />}
          onClick={() => isDrawerOpen.set(true)}
        />
        <ModelSelect models={models} value={model} onChange={selectModel} />
        <SettingsPanel
          settings={settings}
          contextLength={modelFacts?.context ?? null}
          isSampled={modelFacts?.task !== "label"}
          onChange={changeSettings}
        />
      </header>
      <h1 className="visually-hidden">{summary?.title || t("newConversation")}</h1>
      <div className="chat-scroll" ref={scrollRef}>
        {isMissing ? (
          <p className="empty-state">{t("conversationNotFound")}</p>
        ) : isEmpty && !id ? (
          <Greeting model={model} onSendExample={(text) => void send(text)} />
        ) : couldNotLoad ? (
          <FailureMessage {...failure} />
        ) : (
          <div className="message-list" role="log" aria-label={t("messages")} aria-live="off">
            {id &&
              messages.map((message) => (
                <MessageView key={message.id} conversationId={id} conversation={conversation} message={message} />
              ))}
            {streaming && <StreamingAnswerView model={model} answer={streaming} />}
            {id && failed && (
              <>
                {failed.partialAnswer && <InterruptedAnswer model={model} text={failed.partialAnswer} />}
                <FailureMessage error={failed.error} retry={() => void retryQuestion(id, failed)} />
              </>
            )}
            {id && isUnanswered && (
              <button type="button" onClick={() => void askQuestion(id, null, lastMessage.id)}>
                {t("answerQuestion")}
              </button>
            )}
          </div>
        )}
        <div ref={endRef} />
      </div>
      <div className="chat-footer">
        {scrollToEnd && (
          <IconButton className="scroll-to-end" label={t("scrollToEnd")} icon={<ArrowDown />} onClick={scrollToEnd} />
        )}
        {failure && !couldNotLoad && <FailureMessage {...failure} />}
        <Composer
          key={draftKey}
          draftKey={draftKey}
          isDisabled={isMissing}
          isGenerating={streaming !== null}
          isStopping={streaming?.isStopping ?? false}
          onSend={(text) => void send(text)}
          onStop={() => id && void stopGeneration(id)}
        />
        <p className="composer-hint">{t("privacyHint")}</p>
      </div>
      <p className="visually-hidden" role="status">
        {announcement(conversation)}
      </p>
    </div>
  );
}

/** What a screen reader announces: the last answer, once it is finished. */
function announcement(conversation: ConversationState): string {
  const last = visibleMessages(conversation).at(-1);
  return !conversation.streaming && last?.role === "assistant" ? markdownToText(last.content) : "";
}

function FailureMessage({ error, retry }: Failure) {
  const t = useTranslate();
  return (
    <div className="failure" role="alert">
      <p>{errorMessage(error, t)}</p>
      <button type="button" onClick={retry}>
        {t("retry")}
      </button>
    </div>
  );
}
