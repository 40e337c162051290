// What stands around every page: the list of conversations, and the keys that work everywhere.

import { useEffect, useState, type ReactNode } from "react";
import { Watched, useWatched } from "../lib/external";
import { go, paths, usePlace } from "../lib/router";
import { useSay } from "../lib/say";
import { Notice } from "./notice";
import { Shortcuts } from "./shortcuts";
import { Sidebar } from "./sidebar";

/** Whether the list is open where it does not fit beside the page. */
export const drawer = new Watched(false);

export function Shell({ children }: { children: ReactNode }) {
  const say = useSay();
  const open = useWatched(drawer);
  const place = usePlace();
  const [help, setHelp] = useState(false);

  useEffect(() => drawer.set(false), [place]);
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      const mod = event.ctrlKey || event.metaKey;
      const writes = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
      const done = (): void => event.preventDefault();
      if (mod && event.key.toLowerCase() === "k") {
        done();
        drawer.set(true);
        requestAnimationFrame(() => document.getElementById("search")?.focus());
      } else if (mod && event.shiftKey && event.key.toLowerCase() === "o") {
        done();
        go(paths.fresh);
        requestAnimationFrame(() => document.getElementById("ask")?.focus());
      } else if ((mod && event.key === "/") || (event.key === "?" && !writes && !mod)) {
        done();
        setHelp(true);
      } else if (event.key === "/" && !writes && !mod) {
        done();
        document.getElementById("ask")?.focus();
      } else if (event.key === "Escape") drawer.set(false);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);

  return (
    <div className="shell" data-drawer={open || undefined}>
      <a className="skip" href="#ask" onClick={(event) => skip(event.nativeEvent)}>
        {say("skip")}
      </a>
      <Sidebar onShortcuts={() => setHelp(true)} />
      {open && <div className="shade" onClick={() => drawer.set(false)} />}
      <main id="main">{children}</main>
      <Notice />
      <Shortcuts open={help} onOpenChange={setHelp} />
    </div>
  );
}

function skip(event: MouseEvent): void {
  event.preventDefault();
  (document.getElementById("ask") ?? document.querySelector<HTMLElement>("main h1"))?.focus();
}
