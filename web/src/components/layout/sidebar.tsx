// The conversations, newest first, with search; below them the other pages and what the browser remembers.

import { Activity, Boxes, MessageSquarePlus, Search, ThumbsUp, X } from "lucide-react";
import { useDeferredValue, useEffect, useState } from "react";
import { useWatched } from "../lib/external";
import { headings, search, showMore } from "../lib/headings";
import { me, ownerOf } from "../lib/me";
import { failed } from "../lib/notice";
import { go, paths, usePlace, type Place } from "../lib/router";
import { useNumbers, useSay, type Say } from "../lib/say";
import type { Heading } from "../lib/types";
import { ConversationMenu } from "./conversation-menu";
import { IconButton } from "./icon-button";
import { Mark } from "./mark";
import { PreferencesMenu } from "./preferences-menu";
import { drawer } from "./shell";

export function Sidebar({ onShortcuts }: { onShortcuts: () => void }) {
  const say = useSay();
  const place = usePlace();
  return (
    <nav className="side" aria-label={say("conversations")}>
      <div className="row spread">
        <a className="brand" href={`#${paths.fresh}`}>
          <Mark /> Empu
        </a>
        <IconButton className="narrow" label={say("close")} icon={<X />} onClick={() => drawer.set(false)} />
      </div>
      <button type="button" className="fresh" onClick={() => go(paths.fresh)}>
        <MessageSquarePlus aria-hidden /> {say("fresh")}
      </button>
      <SearchField />
      <List place={place} />
      <div className="foot">
        <Link to={paths.models} on={place.at === "models" || place.at === "model"} icon={<Boxes aria-hidden />}>
          {say("specialists")}
        </Link>
        <Link to={paths.runs} on={place.at === "runs" || place.at === "run"} icon={<Activity aria-hidden />}>
          {say("runs")}
        </Link>
        <Link to={paths.feedback} on={place.at === "feedback"} icon={<ThumbsUp aria-hidden />}>
          {say("feedback")}
        </Link>
        <PreferencesMenu onShortcuts={onShortcuts} />
      </div>
    </nav>
  );
}

function Link({ to, on, icon, children }: { to: string; on: boolean; icon: React.ReactNode; children: string }) {
  return (
    <a className="place" href={`#${to}`} aria-current={on ? "page" : undefined}>
      {icon} {children}
    </a>
  );
}

function SearchField() {
  const say = useSay();
  const [words, setWords] = useState("");
  const settled = useDeferredValue(words);
  useEffect(() => {
    const timer = setTimeout(() => {
      if (headings.get().search !== settled) void search(settled).catch(failed);
    }, 150);
    return () => clearTimeout(timer);
  }, [settled]);
  return (
    <div className="search">
      <Search aria-hidden />
      <input
        id="search"
        type="search"
        value={words}
        placeholder={say("search")}
        aria-label={say("search")}
        onChange={(event) => setWords(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") setWords("");
        }}
      />
    </div>
  );
}

function List({ place }: { place: Place }) {
  const say = useSay();
  const { items, more, search: words, loaded } = useWatched(headings);
  const at = place.at === "talk" ? place.id : null;
  const who = ownerOf(useWatched(me).key);
  if (loaded && items.length === 0) return <p className="none">{words ? say("noneFound") : say("noneYet", who)}</p>;
  return (
    <div className="list">
      {grouped(items, say).map(([name, ones]) => (
        <section key={name} aria-label={name}>
          <h2>{name}</h2>
          <ul>
            {ones.map((one) => (
              <Entry key={one.id} heading={one} words={words} current={one.id === at} />
            ))}
          </ul>
        </section>
      ))}
      {more && (
        <button type="button" className="quiet" onClick={() => void showMore().catch(failed)}>
          {say("showMore")}
        </button>
      )}
    </div>
  );
}

/** A text in which what was searched for stands out. */
function Found({ text, words }: { text: string; words: string }) {
  const wanted = words.trim().toLowerCase();
  const at = wanted ? text.toLowerCase().indexOf(wanted) : -1;
  if (at < 0) return text;
  const end = at + wanted.length;
  return (
    <>
      {text.slice(0, at)}
      <mark>{text.slice(at, end)}</mark>
      {text.slice(end)}
    </>
  );
}

function Entry({ heading, words, current }: { heading: Heading; words: string; current: boolean }) {
  const say = useSay();
  const numbers = useNumbers();
  return (
    <li className={current ? "current" : undefined}>
      <a
        href={`#${paths.talk(heading.id)}`}
        aria-current={current ? "page" : undefined}
        title={`${heading.title}\n${heading.model} · ${numbers.moment(heading.updated_at)}`}
      >
        <span className="title">
          <Found text={heading.title || say("fresh")} words={words} />
        </span>
        {heading.found && (
          <span className="found">
            <Found text={heading.found} words={words} />
          </span>
        )}
      </a>
      <ConversationMenu heading={heading} />
    </li>
  );
}

function grouped(items: Heading[], say: Say): [string, Heading[]][] {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const day = 86_400_000;
  const groups = new Map<string, Heading[]>();
  for (const one of items) {
    const age = midnight.getTime() - new Date(one.updated_at).getTime();
    const name = say(age <= 0 ? "today" : age <= day ? "yesterday" : age <= 7 * day ? "week" : "older");
    const group = groups.get(name);
    if (group) group.push(one);
    else groups.set(name, [one]);
  }
  return [...groups];
}
