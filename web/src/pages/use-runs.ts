// Polls the tuning runs for the pages that show them.

import { useEffect, useRef } from "react";
import type { ModelListItem, TuningRun } from "../lib/api-types";
import { useFetch, type FetchResult } from "../lib/use-fetch";
import { refreshSession } from "../stores/session";
import { showError } from "../stores/toast";

const POLL_INTERVAL_MS = 3000;

interface Runs {
  unfinished: TuningRun[];
  finished: ModelListItem[];
}

/** Poll the runs. When one ends, refresh the session, so that its specialist can be asked without a reload. */
export function useRuns(): FetchResult<Runs> {
  const result = useFetch<Runs>("/api/runs", POLL_INTERVAL_MS);
  const unfinishedIds = result.data?.unfinished.map((run) => run.id).join();
  const previousIds = useRef<string | undefined>(undefined);
  useEffect(() => {
    if (previousIds.current && previousIds.current !== unfinishedIds) refreshSession().catch(showError);
    previousIds.current = unfinishedIds;
  }, [unfinishedIds]);
  return result;
}

/** The name of the specialist to be, else the names of the files, else the start of the run's id. */
export function runTitle(run: TuningRun): string {
  const fileNames = Object.keys(run.sources).map((path) => path.split("/").at(-1));
  return run.name || fileNames.join(", ") || run.id.slice(0, 12);
}
