// What went wrong with something that has no place of its own on the page to say so.

import { asProblem, type ApiError } from "./api";
import { Watched } from "./external";

export const notice = new Watched<ApiError | null>(null);

/** For `.catch`: says the error until it is closed or something is done again. */
export function failed(error: unknown): void {
  notice.set(asProblem(error));
}
