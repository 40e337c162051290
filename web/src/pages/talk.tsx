// A conversation: what was said, and the place to say more.

import { Menu as MenuIcon, ArrowDown } from "lucide-react";
import { useCallback, useEffect, useRef, useState } from "react";
import { Composer } from "../components/composer";
import { Greeting } from "../components/greeting";
import { IconButton } from "../components/icon-button";
import { BrokenAnswer, LiveAnswer, Turn } from "../components/turn";
import { ModelPicker } from "../components/model-picker";
import { SettingsPanel } from "../components/settings-panel";
import { drawer } from "../components/shell";
import { useWatched, Watched } from "../lib/external";
import { failed } from "../lib/notice";
import { lastModel } from "../lib/prefs";
import { go, paths } from "../lib/router";
import { useSay } from "../lib/say";
import { ask, begin, change, load, set, shown, stop, talkOf, type Talk } from "../lib/talk";
import { DEFAULTS, type Settings } from "../lib/types";

const NOBODY = new Watched<Talk>({ heading: null, messages: [], live: null, failed: null, missing: false });
/** Settings of the last conversation, for the next one. */
const lastSettings = new Watched<Settings>(DEFAULTS);

export function TalkPage({ id, asked, models }: { id: string | null; asked: string | null; models: string[] }) {
  const say = useSay();
  const talk = useWatched(id ? talkOf(id) : NOBODY);
  const remembered = useWatched(lastModel);
  const settingsNow = useWatched(lastSettings);
  const [problem, setProblem] = useState("");
  const fresh = asked ?? (models.includes(remembered) ? remembered : (models[0] ?? ""));
  const model = talk.heading?.model ?? fresh;
  const settings = { ...DEFAULTS, ...(talk.heading?.settings ?? settingsNow) };
  const path = shown(talk);

  useEffect(() => {
    setProblem("");
    if (id) load(id).catch(() => setProblem(say("lost")));
  }, [id, say]);
  useEffect(() => {
    document.title = talk.heading?.title ? `${talk.heading.title} · Empu` : "Empu";
  }, [talk.heading?.title]);

  const choose = (name: string): void => {
    lastModel.set(name);
    if (id) change(id, { model: name }).catch(failed);
    else go(paths.freshWith(name), true);
  };
  const setSettings = (changed: Partial<Settings>): void => {
    lastSettings.update((now) => ({ ...(id ? settings : now), ...changed }));
    if (id) set(id, changed);
  };
  const put = useCallback(
    async (content: string): Promise<boolean> => {
      try {
        const target = id ?? (await begin(model, settings));
        const parent = shown(talkOf(target).get()).at(-1)?.id ?? null;
        if (!id) go(paths.talk(target), true);
        void ask(target, content, parent);
        return true;
      } catch {
        setProblem(say("lost"));
        return false;
      }
    },
    [id, model, settings, say],
  );

  const { end, follow, away } = useFollowing(talk);
  const isEmpty = path.length === 0 && !talk.live;
  const isUnanswered = path.at(-1)?.role === "user" && !talk.live && !talk.failed;
  return (
    <div className="talk">
      <header className="bar">
        <IconButton className="narrow" label={say("menu")} icon={<MenuIcon />} onClick={() => drawer.set(true)} />
        <ModelPicker models={models} value={model} onChange={choose} />
        <SettingsPanel settings={settings} onChange={setSettings} />
      </header>
      <h1 className="hidden">{talk.heading?.title || say("fresh")}</h1>
      <div className="scroll" ref={follow}>
        {talk.missing ? (
          <p className="none">{say("notFound")}</p>
        ) : isEmpty && !id ? (
          <Greeting model={model} />
        ) : (
          <div className="thread" role="log" aria-label={say("thread")} aria-live="off">
            {id && path.map((message) => <Turn key={message.id} id={id} talk={talk} message={message} />)}
            {talk.live && <LiveAnswer model={model} live={talk.live} />}
            {id && talk.failed && <Failure id={id} model={model} failed={talk.failed} />}
            {id && isUnanswered && (
              <button type="button" onClick={() => void ask(id, null, path.at(-1)?.id ?? null)}>
                {say("answerIt")}
              </button>
            )}
          </div>
        )}
        <div ref={end} className="end" />
      </div>
      <div className="below">
        {away && <IconButton className="toend" label={say("toEnd")} icon={<ArrowDown />} onClick={() => away()} />}
        {problem && (
          <p className="error" role="alert">
            {problem}
          </p>
        )}
        <Composer
          key={id ?? "fresh"}
          place={id ?? "fresh"}
          isOff={talk.missing}
          draft={talk.failed?.content ?? ""}
          isWriting={talk.live !== null}
          isStopping={talk.live?.stopping ?? false}
          onSend={put}
          onStop={() => id && void stop(id)}
        />
        <p className="hint">{say("private")}</p>
      </div>
      <p className="hidden" role="status">
        {announced(talk)}
      </p>
    </div>
  );
}

/** What a screen reader says: a finished answer, once. */
function announced(talk: Talk): string {
  const last = shown(talk).at(-1);
  return !talk.live && last?.role === "assistant" ? last.content.replace(/[*_`#>|~$\\]+/g, " ") : "";
}

function Failure({ id, model, failed: one }: { id: string; model: string; failed: NonNullable<Talk["failed"]> }) {
  const say = useSay();
  return (
    <>
      {one.text && <BrokenAnswer model={model} text={one.text} />}
      <div className="failure" role="alert">
        <p>{one.message || say("lost")}</p>
        {(one.content !== null || one.parent !== null) && (
          <button type="button" onClick={() => void ask(id, one.content, one.parent)}>
            {say("again")}
          </button>
        )}
      </div>
    </>
  );
}

/** Keeps the end in sight while an answer grows, until somebody scrolls up. */
function useFollowing(talk: Talk) {
  const end = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement | null>(null);
  const follows = useRef(true);
  const [isAway, setAway] = useState(false);
  const toEnd = (): void => {
    follows.current = true;
    end.current?.scrollIntoView({ block: "end" });
  };
  const follow = useCallback((element: HTMLDivElement | null) => {
    box.current = element;
    if (!element) return;
    const scrolled = (): void => {
      const rest = element.scrollHeight - element.scrollTop - element.clientHeight;
      follows.current = rest < 60;
      setAway(rest > 240);
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => element.removeEventListener("scroll", scrolled);
  }, []);
  const count = talk.messages.length;
  const isLive = talk.live !== null;
  useEffect(() => {
    if (isLive) follows.current = true;
  }, [isLive]);
  useEffect(() => {
    if (follows.current) end.current?.scrollIntoView({ block: "end" });
  }, [talk.live?.text, count, isLive]);
  return { end, follow, away: isAway ? toEnd : null };
}
