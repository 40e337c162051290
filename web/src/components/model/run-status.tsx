// The state of an unfinished tuning run: whether it is running, its progress, and how to resume it.

import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";
import type { TuningRun } from "../../lib/api-types";
import { CopyButton } from "../ui/copy-button";

export function RunStatus({ run }: { run: TuningRun }) {
  const t = useTranslate();
  const format = useFormat();
  const parts = [
    t(run.is_running ? "running" : "paused"),
    t("stepOf", format.integer(run.step), format.integer(run.steps)),
  ];
  if (run.is_running && run.seconds_left !== null) parts.push(t("timeLeft", format.duration(run.seconds_left)));
  if (!run.is_running) parts.push(t(run.command ? "resumeWith" : "resumeWithSameCommand"));
  return (
    <>
      <p className="small">
        <span className={run.is_running ? "status-dot active" : "status-dot"} /> {parts.join(" · ")}
      </p>
      {!run.is_running && run.command && (
        <div className="row command">
          <code>{run.command}</code>
          <CopyButton text={run.command} />
        </div>
      )}
    </>
  );
}

export function ProgressBar({ run }: { run: TuningRun }) {
  const t = useTranslate();
  return <progress max={Math.max(1, run.steps)} value={run.step} aria-label={t("run")} />;
}
