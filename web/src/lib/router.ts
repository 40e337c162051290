// Hash router: the part of the address behind # selects the page. The server knows one page only.

import { useMemo } from "react";
import { Store, useStore } from "./store";

type Route =
  | { page: "chat"; id: string | null; model: string | null }
  | { page: "models" }
  | { page: "model"; name: string }
  | { page: "runs" }
  | { page: "run"; id: string }
  | { page: "feedback" };

const currentHash = new Store(location.hash);
addEventListener("hashchange", () => currentHash.set(location.hash));
addEventListener("popstate", () => currentHash.set(location.hash));

export function useRoute(): Route {
  const hash = useStore(currentHash);
  return useMemo(() => parseRoute(hash), [hash]);
}

export function navigate(path: string, replace = false): void {
  const hash = `#${path}`;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  currentHash.set(hash);
}

export const paths = {
  newConversation: "/",
  newConversationWith: (model: string): string => `/new/${encodeURIComponent(model)}`,
  conversation: (id: string): string => `/c/${id}`,
  models: "/models",
  model: (name: string): string => `/models/${encodeURIComponent(name)}`,
  runs: "/runs",
  run: (id: string): string => `/runs/${encodeURIComponent(id)}`,
  feedback: "/feedback",
};

function parseRoute(hash: string): Route {
  const [first = "", second = ""] = hash.replace(/^#\/?/, "").split("/").map(decode);
  if (first === "c" && second) return { page: "chat", id: second, model: null };
  if (first === "new" && second) return { page: "chat", id: null, model: second };
  if (first === "models") return second ? { page: "model", name: second } : { page: "models" };
  if (first === "runs") return second ? { page: "run", id: second } : { page: "runs" };
  if (first === "feedback") return { page: "feedback" };
  return { page: "chat", id: null, model: null };
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
