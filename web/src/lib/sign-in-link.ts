// The one-time link that the server prints: its code stands behind # and never reaches a log.

import { call } from "./api";

export function codeIn(hash: string): string | undefined {
  return /^#code=([\w-]+)$/.exec(hash)?.[1];
}

let linkTried: Promise<boolean> | null = null;

/** Sign in with the code of a one-time link, and take it out of the address. Whether there was one that failed. */
export function takeLink(): Promise<boolean> {
  const code = codeIn(location.hash);
  if (!code) return linkTried ?? Promise.resolve(false);
  history.replaceState(null, "", location.pathname);
  linkTried = call("POST", "/api/signin", { code }).then(
    () => false,
    () => true,
  );
  return linkTried;
}
