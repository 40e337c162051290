// Asks for a text: in a line, in a text area, or from a list of options.

import { Dialog } from "@base-ui/react/dialog";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import { FormError } from "./form-error";
import { useSubmit } from "./use-submit";

interface Props {
  open: boolean;
  onClose: () => void;
  title: string;
  description?: string;
  label: string;
  defaultValue: string;
  lines?: number;
  /** Suggested values; a button switches to free text. */
  options?: string[];
  maxLength?: number;
  extraAction?: ReactNode;
  onSave: (text: string) => Promise<void>;
}

export function PromptDialog({
  open,
  onClose,
  title,
  description,
  label,
  defaultValue,
  lines = 1,
  options = [],
  maxLength,
  extraAction,
  onSave,
}: Props) {
  const t = useTranslate();
  const [isOther, setIsOther] = useState(false);
  const { error, submit } = useSubmit(onClose);
  useEffect(() => {
    if (!open) setIsOther(false);
  }, [open]);
  const handleSubmit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget).get("text"));
    void submit(() => onSave(text));
  };
  const field = { name: "text", "aria-label": label, defaultValue };
  return (
    <Dialog.Root open={open} onOpenChange={(isOpen) => !isOpen && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <Dialog.Title>{title}</Dialog.Title>
          {description && <Dialog.Description>{description}</Dialog.Description>}
          <form onSubmit={handleSubmit}>
            {options.length > 0 && !isOther ? (
              <div className="row">
                <select {...field}>
                  {(options.includes(defaultValue) ? options : [defaultValue, ...options]).map((option) => (
                    <option key={option}>{option}</option>
                  ))}
                </select>
                <button type="button" className="subtle" onClick={() => setIsOther(true)}>
                  {t("otherLabel")}
                </button>
              </div>
            ) : lines > 1 ? (
              <textarea {...field} rows={lines} maxLength={maxLength} required />
            ) : (
              <input
                {...field}
                maxLength={maxLength}
                required
                autoFocus={isOther}
                onFocus={(event) => event.target.select()}
              />
            )}
            <FormError message={error} />
            <div className="row align-end">
              {extraAction}
              <Dialog.Close>{t("cancel")}</Dialog.Close>
              <button type="submit" className="primary">
                {t("save")}
              </button>
            </div>
          </form>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
