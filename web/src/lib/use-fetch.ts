// Hook that reads JSON from the server, again when the path changes and, if wanted, at an interval.

import { useEffect, useState } from "react";
import { request, toApiError, type ApiError } from "./api";

export interface FetchResult<T> {
  data: T | null;
  error: ApiError | null;
  refetch: () => void;
}

export function useFetch<T>(path: string, intervalMs = 0): FetchResult<T> {
  const [state, setState] = useState<{ path: string; data: T | null; error: ApiError | null }>({
    path,
    data: null,
    error: null,
  });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let cancelled = false;
    let timer = 0;
    const load = async (): Promise<void> => {
      try {
        const data = await request<T>("GET", path);
        if (!cancelled) setState({ path, data, error: null });
      } catch (caught) {
        const error = toApiError(caught);
        if (!cancelled) setState((previous) => ({ path, data: previous.path === path ? previous.data : null, error }));
      }
      if (intervalMs && !cancelled) timer = window.setTimeout(() => void load(), intervalMs);
    };
    void load();
    return () => {
      cancelled = true;
      clearTimeout(timer);
    };
  }, [path, intervalMs, attempt]);
  const isCurrent = state.path === path;
  return {
    data: isCurrent ? state.data : null,
    error: isCurrent ? state.error : null,
    refetch: () => setAttempt((count) => count + 1),
  };
}
