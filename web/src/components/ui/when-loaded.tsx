// Renders fetched data, or a loading message or error in its place.

import type { ReactNode } from "react";
import { errorMessage } from "../../i18n/error-message";
import { useTranslate } from "../../i18n/translate";
import type { FetchResult } from "../../lib/use-fetch";

interface Props<T> {
  result: FetchResult<T>;
  children: (data: T) => ReactNode;
}

export function WhenLoaded<T>({ result, children }: Props<T>) {
  const t = useTranslate();
  const { data, error, refetch } = result;
  if (data !== null)
    return (
      <>
        {error && (
          <p className="error" role="alert">
            {errorMessage(error, t)}
          </p>
        )}
        {children(data)}
      </>
    );
  if (!error) return <p className="empty-state">{t("loading")}</p>;
  return (
    <div className="empty-state" role="alert">
      <p>{errorMessage(error, t)}</p>
      {error.status !== 404 && (
        <button type="button" onClick={refetch}>
          {t("retry")}
        </button>
      )}
    </div>
  );
}
