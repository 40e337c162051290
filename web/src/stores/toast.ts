// The error that the toast shows: one that no part of the page has a place for.

import { toApiError, type ApiError } from "../lib/api";
import { Store } from "../lib/store";

export const toastError = new Store<ApiError | null>(null);

/** Show an error in the toast until it is closed. For `.catch`. */
export function showError(error: unknown): void {
  toastError.set(toApiError(error));
}
