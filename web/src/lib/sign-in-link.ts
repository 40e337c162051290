// The one-time sign-in link that the server prints. Its code follows the #, so that it never reaches a log.

import { request } from "./api";

export function codeFromHash(hash: string): string | undefined {
  return /^#code=([\w-]+)$/.exec(hash)?.[1];
}

let lastAttempt: Promise<boolean> | null = null;

/** Sign in with the code in the address, and remove it from there. Resolves to whether there was one that failed. */
export function redeemSignInLink(): Promise<boolean> {
  const code = codeFromHash(location.hash);
  if (!code) return lastAttempt ?? Promise.resolve(false);
  history.replaceState(null, "", location.pathname);
  lastAttempt = request("POST", "/api/signin", { code }).then(
    () => false,
    () => true,
  );
  return lastAttempt;
}
