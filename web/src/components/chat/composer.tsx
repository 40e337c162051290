// Where one writes. Enter sends; what could not be sent stays.

import { ArrowUp, Square } from "lucide-react";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { draftOf, keepDraft } from "../lib/drafts";
import { useSay } from "../lib/say";
import { editLast } from "./turn";

interface Props {
  /** Which conversation: what is typed stays with it. */
  place: string;
  /** Whether there is nothing to write to. */
  isOff: boolean;
  draft: string;
  isWriting: boolean;
  isStopping: boolean;
  onSend: (text: string) => Promise<boolean>;
  onStop: () => void;
}

export function Composer({ place, isOff, draft, isWriting, isStopping, onSend, onStop }: Props) {
  const say = useSay();
  const [text, setNow] = useState(() => draftOf(place) || draft);
  const field = useRef<HTMLTextAreaElement>(null);

  const setText = (words: string): void => {
    setNow(words);
    keepDraft(place, words);
  };
  // What could not be sent comes back, and goes when it is sent by other means.
  const returned = useRef("");
  useEffect(() => {
    const was = returned.current;
    returned.current = draft;
    if (draft && !text) setText(draft);
    else if (!draft && was && text === was) setText("");
  }, [draft]);
  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) field.current?.focus();
  }, []);
  useEffect(() => {
    if (!isWriting) return;
    const pressed = (event: globalThis.KeyboardEvent): void => {
      const isElsewhere = event.isComposing || event.target instanceof HTMLInputElement;
      if (event.key === "Escape" && !event.defaultPrevented && !isElsewhere) onStop();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [isWriting, onStop]);

  const send = (): void => {
    const words = text.trim();
    if (!words || isWriting) return;
    setText("");
    void onSend(words).then((sent) => {
      if (!sent) setText(words);
    });
  };
  const pressed = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && !text) {
      event.preventDefault();
      editLast();
    }
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="grow" data-text={`${text}\n`}>
        <textarea
          id="ask"
          ref={field}
          rows={1}
          value={text}
          placeholder={say("ask")}
          aria-label={say("ask")}
          enterKeyHint="send"
          disabled={isOff}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={pressed}
        />
      </div>
      {isWriting ? (
        <button
          type="button"
          className="send"
          aria-label={say("stop")}
          disabled={isStopping}
          onClick={() => {
            onStop();
            field.current?.focus();
          }}
        >
          <Square fill="currentColor" />
        </button>
      ) : (
        <button type="submit" className="send" aria-label={say("send")} disabled={!text.trim()}>
          <ArrowUp />
        </button>
      )}
    </form>
  );
}
