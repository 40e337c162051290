// One message: a question that can be edited, or an answer with what is known of it and what one thinks of it.

import { ChevronLeft, ChevronRight, Pencil, PenLine, RotateCcw, ThumbsDown, ThumbsUp } from "lucide-react";
import { memo, useEffect, useState, type FormEvent, type KeyboardEvent } from "react";
import { call } from "../lib/api";
import { failed } from "../lib/notice";
import { useSay, useNumbers } from "../lib/say";
import { ask, judge, siblings, turnTo, type Live, type Talk } from "../lib/talk";
import type { Card, Message } from "../lib/types";
import { copy, CopyButton } from "./copy-button";
import { Prompt } from "./dialogs";
import { IconButton } from "./icon-button";
import { Labels } from "./labels";
import { Markdown } from "./markdown";

interface Props {
  id: string;
  talk: Talk;
  message: Message;
}

export function Turn(props: Props) {
  return props.message.role === "user" ? <Question {...props} /> : <Answer {...props} />;
}

/** Opens the last question for editing, as the arrow up in an empty field does. */
export function editLast(): void {
  [...document.querySelectorAll<HTMLButtonElement>("button[data-edit]")].at(-1)?.click();
}

function Question({ id, talk, message }: Props) {
  const say = useSay();
  const [edits, setEdits] = useState(false);
  const busy = talk.live !== null;
  if (edits)
    return (
      <EditQuestion
        text={message.content}
        isBusy={busy}
        onDone={() => setEdits(false)}
        onSend={(text) => void ask(id, text, message.parent)}
      />
    );
  return (
    <article className="turn question" aria-label={say("you")}>
      <div className="bubble">{message.content}</div>
      <div className="actions">
        <Versions id={id} talk={talk} message={message} />
        <CopyButton text={message.content} />
        <IconButton label={say("edit")} icon={<Pencil />} disabled={busy} data-edit onClick={() => setEdits(true)} />
      </div>
    </article>
  );
}

interface Edited {
  text: string;
  /** Whether an answer is being written, so that nothing can be asked now. */
  isBusy: boolean;
  onDone: () => void;
  onSend: (text: string) => void;
}

function EditQuestion({ text, isBusy, onDone, onSend }: Edited) {
  const say = useSay();
  const submit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const words = String(new FormData(event.currentTarget).get("text")).trim();
    if (!words || isBusy) return;
    onDone();
    onSend(words);
  };
  const pressed = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.key === "Escape") {
      event.preventDefault();
      onDone();
      document.getElementById("ask")?.focus();
    } else if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      event.currentTarget.form?.requestSubmit();
    }
  };
  return (
    <form className="turn edit" onSubmit={submit}>
      <textarea name="text" aria-label={say("editAsk")} defaultValue={text} rows={4} autoFocus onKeyDown={pressed} />
      <div className="row end">
        <button type="button" onClick={onDone}>
          {say("cancel")}
        </button>
        <button type="submit" className="primary" disabled={isBusy}>
          {say("sendEdited")}
        </button>
      </div>
    </form>
  );
}

function Answer({ id, talk, message }: Props) {
  const say = useSay();
  const { facts } = message;
  const [corrects, setCorrects] = useState(false);
  const labels = useLabels(corrects && facts.confidence !== undefined ? (facts.model ?? "") : "");
  const isLast = talk.heading?.leaf === message.id && talk.live === null;
  const isLabel = facts.confidence !== undefined;
  const again = (): void => void ask(id, null, message.parent);
  useKeys(isLast, message, isLabel ? null : again);
  const mark = (verdict: "up" | "down"): void =>
    void judge(id, message.id, message.verdict === verdict ? null : verdict, message.correction).catch(failed);
  // A correction that changes nothing means that the answer is right; any other leaves a verdict that was given.
  const correct = (text: string): Promise<void> =>
    text === message.content.replace(/\r\n?/g, "\n").trim()
      ? judge(id, message.id, "up", null)
      : judge(id, message.id, message.verdict ?? "down", text);
  return (
    <article className="turn answer" aria-label={say("answerOf", facts.model ?? "")}>
      {isLabel ? <Labels answer={message.content} facts={facts} /> : <Words text={message.content} />}
      {message.correction !== null && (
        <div className="correction">
          <p className="small">{say("corrected")}</p>
          {isLabel ? <p>{message.correction}</p> : <Markdown text={message.correction} />}
        </div>
      )}
      <div className="actions">
        <Versions id={id} talk={talk} message={message} />
        <CopyButton text={message.content} label="copyAnswer" />
        {!isLabel && (
          <IconButton label={say("regenerate")} icon={<RotateCcw />} disabled={talk.live !== null} onClick={again} />
        )}
        <IconButton
          label={say("good")}
          icon={<ThumbsUp />}
          aria-pressed={message.verdict === "up"}
          onClick={() => mark("up")}
        />
        <IconButton
          label={say("bad")}
          icon={<ThumbsDown />}
          aria-pressed={message.verdict === "down"}
          onClick={() => mark("down")}
        />
        <IconButton
          label={say("correct")}
          icon={<PenLine />}
          aria-pressed={message.correction !== null}
          onClick={() => setCorrects(true)}
        />
        <Known message={message} />
      </div>
      <Prompt
        open={corrects}
        onClose={() => setCorrects(false)}
        title={say(isLabel ? "correctLabelAsk" : "correctAsk")}
        said={say("correctSaid")}
        label={say(isLabel ? "correctLabel" : "correctAsk")}
        value={message.correction ?? message.content}
        lines={isLabel ? 1 : 8}
        options={isLabel ? labels : []}
        onSave={(text) => correct(text.trim())}
        more={
          message.correction !== null && (
            <button
              type="button"
              className="quiet"
              onClick={() => {
                setCorrects(false);
                void judge(id, message.id, message.verdict, null).catch(failed);
              }}
            >
              {say("removeCorrection")}
            </button>
          )
        }
      />
    </article>
  );
}

const Words = memo(Markdown);

/** What came of an answer before the server was lost. */
export function BrokenAnswer({ model, text }: { model: string; text: string }) {
  const say = useSay();
  return (
    <article className="turn answer" aria-label={say("answerOf", model)}>
      <Markdown text={text} />
      <div className="actions">
        <CopyButton text={text} label="copyAnswer" />
        <span className="known">{say("brokeOff")}</span>
      </div>
    </article>
  );
}

/** All labels of a specialist, once somebody wants to correct one; "" asks for none. */
function useLabels(model: string): string[] {
  const [found, setFound] = useState<string[]>([]);
  useEffect(() => {
    if (!model) return;
    call<Card>("GET", `/api/models/${encodeURIComponent(model)}`).then(
      (card) => setFound(card.label_names ?? []),
      failed,
    );
  }, [model]);
  return found;
}

function useKeys(isLast: boolean, message: Message, again: (() => void) | null): void {
  useEffect(() => {
    if (!isLast) return;
    const pressed = (event: globalThis.KeyboardEvent): void => {
      if (!event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.code === "KeyR" && again) {
        event.preventDefault();
        again();
      } else if (event.code === "KeyC") {
        event.preventDefault();
        void copy(message.content);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });
}

function Versions({ id, talk, message }: Props) {
  const say = useSay();
  const all = siblings(talk, message);
  if (all.length < 2) return null;
  const at = all.findIndex((one) => one.id === message.id);
  const turn = (step: number): void => {
    const target = all[at + step];
    if (target) turnTo(id, target);
  };
  const busy = talk.live !== null;
  return (
    <span className="versions">
      <IconButton label={say("previous")} icon={<ChevronLeft />} disabled={busy || at === 0} onClick={() => turn(-1)} />
      <span>{say("version", at + 1, all.length)}</span>
      <IconButton
        label={say("next")}
        icon={<ChevronRight />}
        disabled={busy || at === all.length - 1}
        onClick={() => turn(1)}
      />
    </span>
  );
}

/** Counts, speed, and how it ended. */
function Known({ message }: { message: Message }) {
  const say = useSay();
  const numbers = useNumbers();
  const { facts } = message;
  const said = [facts.model ?? ""];
  if (facts.completion_tokens !== undefined) said.push(say("tokens", numbers.count(facts.completion_tokens)));
  if (facts.tokens_per_s) said.push(say("rate", numbers.rate(facts.tokens_per_s)));
  if (facts.first_token_s) said.push(say("firstToken", numbers.seconds(facts.first_token_s)));
  if (facts.prompt_tokens !== undefined) said.push(say("readTokens", numbers.count(facts.prompt_tokens)));
  if (facts.finish_reason === "cancelled") said.push(say("stopped"));
  if (facts.finish_reason === "length") said.push(say("cut"));
  return <span className="known">{said.filter(Boolean).join(" · ")}</span>;
}

export function LiveAnswer({ model, live }: { model: string; live: Live }) {
  const say = useSay();
  const numbers = useNumbers();
  const pending = live.question === null && live.content !== null ? live.content : null;
  const seconds = live.firstAt === null ? 0 : (performance.now() - live.firstAt) / 1000;
  const rate = seconds > 0.3 ? ` · ${say("rate", numbers.count((live.tokens - 1) / seconds))}` : "";
  return (
    <>
      {pending !== null && (
        <article className="turn question" aria-label={say("you")}>
          <div className="bubble">{pending}</div>
        </article>
      )}
      <article className="turn answer live" aria-label={say("answerOf", model)} aria-busy="true">
        {live.text ? <Markdown text={live.text} /> : <p className="thinking">{say("thinking")}</p>}
        <div className="actions">
          <span className="known">{live.tokens > 0 && `${say("tokens", numbers.count(live.tokens))}${rate}`}</span>
        </div>
      </article>
    </>
  );
}
