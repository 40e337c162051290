// HTTP client for the server that delivered the page. The bundle knows no other address.

import type { StreamEvent } from "./api-types";

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 if the server could not be reached or the connection was lost. */
    readonly status: number,
    message: string,
    /** The server's code for the kind of error. */
    readonly code = "",
  ) {
    super(message);
  }
}

interface ErrorBody {
  error?: { message?: string; code?: string | null };
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

const unauthorizedListeners = new Set<() => void>();

/** Turn anything that was thrown into an {@link ApiError}. */
export function toApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, "");
}

/** Call `listener` whenever the server answers 401. Returns a function that unsubscribes. */
export function onUnauthorized(listener: () => void): () => void {
  unauthorizedListeners.add(listener);
  return () => unauthorizedListeners.delete(listener);
}

export async function request<T>(method: Method, path: string, body?: unknown): Promise<T> {
  return (await (await send(method, path, body)).json()) as T;
}

/** Yield the server-sent events of an answer. Ends when the server ends; throws {@link ApiError}. */
export async function* streamEvents(path: string, body: unknown): AsyncGenerator<StreamEvent> {
  const response = await send("POST", path, body);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let incompleteLine = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (incompleteLine + value).split("\n");
    incompleteLine = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6)) as StreamEvent;
  }
}

async function send(method: Method, path: string, body?: unknown): Promise<Response> {
  let response: Response;
  try {
    const content =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    response = await fetch(path, { method, ...content });
  } catch {
    throw new ApiError(0, "");
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/api/signin") for (const listener of unauthorizedListeners) listener();
  const { error } = ((await response.json().catch(() => null)) ?? {}) as ErrorBody;
  throw new ApiError(response.status, error?.message ?? `${response.status}`, error?.code ?? "");
}
