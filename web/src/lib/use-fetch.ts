// Something read from the server for a page: again when its address changes, and every so often where it lives.

import { useEffect, useState } from "react";
import { ApiError, call } from "./api";

export interface Loaded<T> {
  value: T | null;
  problem: ApiError | null;
  again: () => void;
}

export function useLoaded<T>(path: string, everyMs = 0): Loaded<T> {
  const [state, setState] = useState<{ path: string; value: T | null; problem: ApiError | null }>({
    path,
    value: null,
    problem: null,
  });
  const [round, setRound] = useState(0);
  useEffect(() => {
    let left = false;
    let timer = 0;
    const read = async (): Promise<void> => {
      try {
        const value = await call<T>("GET", path);
        if (!left) setState({ path, value, problem: null });
      } catch (error) {
        const problem = error instanceof ApiError ? error : new ApiError(0, "");
        if (!left) setState((now) => ({ path, value: now.path === path ? now.value : null, problem }));
      }
      if (everyMs && !left) timer = window.setTimeout(() => void read(), everyMs);
    };
    void read();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [path, everyMs, round]);
  const shown = state.path === path;
  return {
    value: shown ? state.value : null,
    problem: shown ? state.problem : null,
    again: () => setRound((n) => n + 1),
  };
}
