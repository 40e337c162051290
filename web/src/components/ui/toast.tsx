// The toast: an error that no part of the page has a place for, until it is closed.

import { X } from "lucide-react";
import { errorMessage } from "../../i18n/error-message";
import { useTranslate } from "../../i18n/translate";
import { useStore } from "../../lib/store";
import { toastError } from "../../stores/toast";
import { IconButton } from "./icon-button";

export function Toast() {
  const t = useTranslate();
  const error = useStore(toastError);
  if (error === null) return null;
  return (
    <div className="toast" role="alert">
      <p>{errorMessage(error, t)}</p>
      <IconButton label={t("close")} icon={<X />} onClick={() => toastError.set(null)} />
    </div>
  );
}
