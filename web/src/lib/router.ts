// Where in the page one is: the part of the address behind #. The server knows one page only.

import { useMemo } from "react";
import { Watched, useWatched } from "./external";

export type Place =
  | { at: "talk"; id: string | null; model: string | null }
  | { at: "models" }
  | { at: "model"; name: string }
  | { at: "runs" }
  | { at: "run"; id: string }
  | { at: "feedback" };

const address = new Watched(location.hash);
addEventListener("hashchange", () => address.set(location.hash));

export function usePlace(): Place {
  const hash = useWatched(address);
  return useMemo(() => read(hash), [hash]);
}

export function go(path: string, replace = false): void {
  const target = `#${path}`;
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  address.set(target);
}
addEventListener("popstate", () => address.set(location.hash));

export const paths = {
  fresh: "/",
  freshWith: (model: string): string => `/new/${encodeURIComponent(model)}`,
  talk: (id: string): string => `/c/${id}`,
  models: "/models",
  model: (name: string): string => `/models/${encodeURIComponent(name)}`,
  runs: "/runs",
  run: (id: string): string => `/runs/${encodeURIComponent(id)}`,
  feedback: "/feedback",
};

function read(hash: string): Place {
  const [first = "", second = ""] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  if (first === "c" && second) return { at: "talk", id: second, model: null };
  if (first === "new" && second) return { at: "talk", id: null, model: second };
  if (first === "models") return second ? { at: "model", name: second } : { at: "models" };
  if (first === "runs") return second ? { at: "run", id: second } : { at: "runs" };
  if (first === "feedback") return { at: "feedback" };
  return { at: "talk", id: null, model: null };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
