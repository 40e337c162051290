// Ratings and corrections of answers, and their export as rows for tuning.

import { Download, FolderDown, PenLine, ThumbsDown, ThumbsUp } from "lucide-react";
import { useState } from "react";
import { CopyButton } from "../components/ui/copy-button";
import { FormError } from "../components/ui/form-error";
import { PageLayout } from "../components/ui/page-layout";
import { WhenLoaded } from "../components/ui/when-loaded";
import type { MessageKey } from "../i18n/en";
import { errorMessage } from "../i18n/error-message";
import { useFormat } from "../i18n/format";
import { useTranslate } from "../i18n/translate";
import { request } from "../lib/api";
import type { Feedback, RatedAnswer, RowKind } from "../lib/api-types";
import { paths } from "../lib/router";
import { useFetch } from "../lib/use-fetch";

interface SavedRows {
  path: string;
  rows: number;
  command: string;
}

/** The fewest rows that empu tune accepts. */
const MIN_ROWS = 10;

const ROW_KINDS: { kind: RowKind; name: MessageKey; help: MessageKey }[] = [
  { kind: "labels", name: "labelRows", help: "labelRowsHelp" },
  { kind: "messages", name: "conversationRows", help: "conversationRowsHelp" },
  { kind: "preferences", name: "preferenceRows", help: "preferenceRowsHelp" },
];

export function FeedbackPage() {
  const t = useTranslate();
  const result = useFetch<Feedback>("/api/feedback");
  return (
    <PageLayout title={t("feedback")} description={t("feedbackHelp")}>
      <WhenLoaded result={result}>
        {(feedback) => (
          <>
            <Counts feedback={feedback} />
            {feedback.items.length === 0 && <p className="empty-state">{t("noFeedback")}</p>}
            <section className="section">
              <h2>{t("rowsForTuning")}</h2>
              <ul className="card-list">
                {ROW_KINDS.map(({ kind, name, help }) => (
                  <RowKindCard key={kind} kind={kind} name={t(name)} help={t(help)} numRows={feedback.rows[kind]} />
                ))}
              </ul>
            </section>
            {feedback.items.length > 0 && (
              <section className="section">
                <h2>{t("newest")}</h2>
                <ul className="feedback-list">
                  {feedback.items.map((item) => (
                    <FeedbackItem key={item.id} item={item} />
                  ))}
                </ul>
              </section>
            )}
          </>
        )}
      </WhenLoaded>
    </PageLayout>
  );
}

function Counts({ feedback }: { feedback: Feedback }) {
  const t = useTranslate();
  const format = useFormat();
  return (
    <ul className="feedback-counts">
      <li>
        <ThumbsUp aria-hidden /> <strong>{format.integer(feedback.up)}</strong> {t("goodCount")}
      </li>
      <li>
        <ThumbsDown aria-hidden /> <strong>{format.integer(feedback.down)}</strong> {t("badCount")}
      </li>
      <li>
        <PenLine aria-hidden /> <strong>{format.integer(feedback.corrections)}</strong> {t("correctedCount")}
      </li>
    </ul>
  );
}

interface RowKindProps {
  kind: RowKind;
  name: string;
  help: string;
  numRows: number;
}

function RowKindCard({ kind, name, help, numRows }: RowKindProps) {
  const t = useTranslate();
  const format = useFormat();
  const [saved, setSaved] = useState<SavedRows | null>(null);
  const [error, setError] = useState("");
  const countRows = (count: number): string => (count === 1 ? t("oneRow") : t("rowCount", format.integer(count)));
  const save = async (): Promise<void> => {
    try {
      setSaved(await request<SavedRows>("POST", "/api/feedback/save", { kind }));
      setError("");
    } catch (caught) {
      setError(errorMessage(caught, t));
    }
  };
  return (
    <li>
      <p className="card-title">
        {name} <span className="small">{countRows(numRows)}</span>
      </p>
      <p className="small">{help}</p>
      {numRows > 0 && (
        <div className="row">
          <a className="button" href={`/api/feedback/rows/${kind}`} download>
            <Download aria-hidden /> {t("download")}
          </a>
          <button type="button" onClick={() => void save()}>
            <FolderDown aria-hidden /> {t("saveToStore")}
          </button>
        </div>
      )}
      <FormError message={error} />
      {saved && (
        <div className="saved-rows" role="status">
          <p className="small">
            {saved.rows < MIN_ROWS
              ? t("savedTooFew", countRows(saved.rows), format.integer(MIN_ROWS - saved.rows))
              : t("savedTuneWith", countRows(saved.rows))}
          </p>
          <div className="row">
            <code>{saved.command}</code>
            <CopyButton text={saved.command} />
          </div>
          <p className="small">{t("tunesOnTheseRowsOnly")}</p>
        </div>
      )}
    </li>
  );
}

function FeedbackItem({ item }: { item: RatedAnswer }) {
  const t = useTranslate();
  const isCorrected = item.correction !== null;
  const Icon = isCorrected ? PenLine : item.verdict === "up" ? ThumbsUp : ThumbsDown;
  const label = isCorrected ? "corrected" : item.verdict === "up" ? "goodAnswer" : "badAnswer";
  return (
    <li>
      <span className={`rating-icon ${item.verdict ?? ""}`} role="img" aria-label={t(label)}>
        <Icon aria-hidden />
      </span>
      <div>
        <a href={`#${paths.conversation(item.conversation)}`}>{item.question}</a>
        <p className={isCorrected ? "line-clamp struck-out" : "line-clamp"}>{item.content}</p>
        {isCorrected && <p className="line-clamp">{item.correction}</p>}
      </div>
    </li>
  );
}
