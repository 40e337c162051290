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
import { briefs } from "../lib/briefs";
import { spoken } from "../lib/markdown";
import { failed } from "../lib/notice";
import { lastModel } from "../lib/prefs";
import { go, paths } from "../lib/router";
import { useSay } from "../lib/say";
import { told } from "../lib/told";
import { ask, askAgain, begin, change, load, set, shown, stop, talkOf, type Failed, type Talk } from "../lib/talk";
import { DEFAULTS, type Settings } from "../lib/types";

const NOBODY = new Watched<Talk>({ heading: null, messages: [], live: null, failed: null, missing: false });
/** Settings of the last conversation, for the next one. */
const lastSettings = new Watched<Settings>(DEFAULTS);

export function TalkPage({ id, asked, models }: { id: string | null; asked: string | null; models: string[] }) {
  const say = useSay();
  const talk = useWatched(id ? talkOf(id) : NOBODY);
  const remembered = useWatched(lastModel);
  const settingsNow = useWatched(lastSettings);
  const [problem, setProblem] = useState<Problem | null>(null);
  const fresh = asked ?? (models.includes(remembered) ? remembered : (models[0] ?? ""));
  const model = talk.heading?.model ?? fresh;
  const settings = { ...DEFAULTS, ...(talk.heading?.settings ?? settingsNow) };
  const path = shown(talk);
  const brief = useWatched(briefs).find((one) => one.name === model);

  useEffect(() => {
    const read = (): void => {
      setProblem(null);
      if (id) load(id).catch((error: unknown) => setProblem({ error, again: read }));
    };
    read();
  }, [id]);
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
    async (content: string, isTyped = true): Promise<boolean> => {
      setProblem(null);
      try {
        const target = id ?? (await begin(model, settings));
        const parent = shown(talkOf(target).get()).at(-1)?.id ?? null;
        if (!id) go(paths.talk(target), true);
        void ask(target, content, parent);
        return true;
      } catch (error) {
        setProblem({ error, again: isTyped ? sendAgain : () => void put(content, false) });
        return false;
      }
    },
    [id, model, settings],
  );

  const { end, follow, away } = useFollowing(talk);
  const isEmpty = path.length === 0 && !talk.live;
  const isUnanswered = path.at(-1)?.role === "user" && !talk.live && !talk.failed;
  return (
    <div className="talk">
      <header className="bar">
        <IconButton className="narrow" label={say("menu")} icon={<MenuIcon />} onClick={() => drawer.set(true)} />
        <ModelPicker models={models} value={model} onChange={choose} />
        <SettingsPanel
          settings={settings}
          longest={brief?.context ?? null}
          isDrawn={brief?.task !== "label"}
          onChange={setSettings}
        />
      </header>
      <h1 className="hidden">{talk.heading?.title || say("fresh")}</h1>
      <div className="scroll" ref={follow}>
        {talk.missing ? (
          <p className="none">{say("notFound")}</p>
        ) : isEmpty && !id ? (
          <Greeting model={model} onTry={(text) => void put(text, false)} />
        ) : problem && id && !talk.heading ? (
          <Trouble problem={problem} />
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
        {problem && !(id && !talk.heading) && <Trouble problem={problem} />}
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
  return !talk.live && last?.role === "assistant" ? spoken(last.content) : "";
}

interface Problem {
  error: unknown;
  again: () => void;
}

/** The words are back in their field, so that sending them is all there is to do. */
function sendAgain(): void {
  document.querySelector<HTMLFormElement>("form.composer")?.requestSubmit();
}

function Trouble({ problem }: { problem: Problem }) {
  const say = useSay();
  return (
    <div className="failure" role="alert">
      <p>{told(problem.error, say)}</p>
      <button type="button" onClick={problem.again}>
        {say("again")}
      </button>
    </div>
  );
}

function Failure({ id, model, failed: one }: { id: string; model: string; failed: Failed }) {
  return (
    <>
      {one.text && <BrokenAnswer model={model} text={one.text} />}
      <Trouble problem={{ error: one.problem, again: () => void askAgain(id, one) }} />
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
    // Formulas and code are drawn after their words, and the end moves on.
    const grown = new ResizeObserver(() => follows.current && end.current?.scrollIntoView({ block: "end" }));
    const watch = (): void => {
      grown.disconnect();
      for (const child of element.children) grown.observe(child);
    };
    const changed = new MutationObserver(watch);
    changed.observe(element, { childList: true });
    watch();
    return () => {
      element.removeEventListener("scroll", scrolled);
      changed.disconnect();
      grown.disconnect();
    };
  }, []);
  const count = talk.messages.length;
  useEffect(() => {
    follows.current = true;
  }, [talk.heading?.id]);
  const isLive = talk.live !== null;
  useEffect(() => {
    if (isLive) follows.current = true;
  }, [isLive]);
  useEffect(() => {
    if (follows.current) end.current?.scrollIntoView({ block: "end" });
  }, [talk.live?.text, count, isLive]);
  return { end, follow, away: isAway ? toEnd : null };
}
