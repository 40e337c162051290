// What went wrong with something that has no place of its own on the page to say so.

import { ApiError } from "./api";
import { Watched } from "./external";

/** `null`: nothing; "": the server cannot be reached; otherwise what it said. */
export const notice = new Watched<string | null>(null);

/** For `.catch`: says the error until the next thing that is done. */
export function failed(error: unknown): void {
  notice.set(error instanceof ApiError ? error.message : "");
}
