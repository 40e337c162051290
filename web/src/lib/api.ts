// Requests to the server that the page came from: there is no other address in this bundle.

import type { StreamEvent } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** The server's word for the kind of error. */
    readonly code = "",
  ) {
    super(message);
  }
}

interface Problem {
  message?: string;
  code?: string | null;
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

const signedOut = new Set<() => void>();

/** For `.catch`: any failure as an {@link ApiError}; one of status 0 is a server that cannot be reached. */
export function asProblem(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, "");
}

/** Calls `told` whenever the server says that nobody is signed in. */
export function onSignedOut(told: () => void): () => void {
  signedOut.add(told);
  return () => signedOut.delete(told);
}

export async function call<T>(method: Method, path: string, body?: unknown): Promise<T> {
  return (await (await send(method, path, body)).json()) as T;
}

/** The events of an answer, as they come. Ends where the server ends; throws {@link ApiError} for an error on the way. */
export async function* stream(path: string, body: unknown): AsyncGenerator<StreamEvent> {
  const response = await send("POST", path, body);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
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
  if (response.status === 401 && path !== "/api/signin") for (const told of signedOut) told();
  const said = (await response.json().catch(() => null)) as { error?: Problem } | null;
  throw new ApiError(response.status, said?.error?.message ?? `${response.status}`, said?.error?.code ?? "");
}
