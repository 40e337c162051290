// What the pages beside conversations have in common.

import { Menu as MenuIcon } from "lucide-react";
import { useEffect, type ReactNode } from "react";
import type { Loaded } from "../lib/load";
import { useSay } from "../lib/say";
import { told } from "../lib/told";
import { IconButton } from "./icon-button";
import { drawer } from "./shell";

export function Page({
  title,
  said,
  aside,
  children,
}: {
  title: string;
  said?: ReactNode;
  aside?: ReactNode;
  children: ReactNode;
}) {
  const say = useSay();
  useEffect(() => {
    document.title = `${title} · Empu`;
  }, [title]);
  return (
    <div className="page">
      <IconButton className="narrow" label={say("menu")} icon={<MenuIcon />} onClick={() => drawer.set(true)} />
      <header className="heading">
        <div>
          <h1 tabIndex={-1}>{title}</h1>
          {said && <p>{said}</p>}
        </div>
        {aside}
      </header>
      {children}
    </div>
  );
}

/** The value once it is there; until then that it comes, or why it does not. */
export function Waiting<T>({ loaded, children }: { loaded: Loaded<T>; children: (value: T) => ReactNode }) {
  const say = useSay();
  if (loaded.value !== null)
    return (
      <>
        {loaded.problem && (
          <p className="error" role="alert">
            {told(loaded.problem, say)}
          </p>
        )}
        {children(loaded.value)}
      </>
    );
  if (!loaded.problem) return <p className="none">{say("loading")}</p>;
  return (
    <div className="none" role="alert">
      <p>{told(loaded.problem, say)}</p>
      {loaded.problem.status !== 404 && (
        <button type="button" onClick={loaded.again}>
          {say("again")}
        </button>
      )}
    </div>
  );
}

export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Tags({ names, more }: { names: string[]; more?: string | undefined }) {
  return (
    <ul className="tags">
      {names.map((one) => (
        <li key={one}>{one}</li>
      ))}
      {more && <li className="small">{more}</li>}
    </ul>
  );
}
