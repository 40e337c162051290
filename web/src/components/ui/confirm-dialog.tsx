// Asks before something is deleted.

import { AlertDialog } from "@base-ui/react/alert-dialog";
import { useTranslate } from "../../i18n/translate";
import { FormError } from "./form-error";
import { useSubmit } from "./use-submit";

interface Props {
  open: boolean;
  onClose: () => void;
  title: string;
  description: string;
  onConfirm: () => Promise<void>;
}

export function ConfirmDialog({ open, onClose, title, description, onConfirm }: Props) {
  const t = useTranslate();
  const { error, submit } = useSubmit(onClose);
  return (
    <AlertDialog.Root open={open} onOpenChange={(isOpen) => !isOpen && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="backdrop" />
        <AlertDialog.Popup className="dialog">
          <AlertDialog.Title>{title}</AlertDialog.Title>
          <AlertDialog.Description>{description}</AlertDialog.Description>
          <FormError message={error} />
          <div className="row align-end">
            <AlertDialog.Close>{t("cancel")}</AlertDialog.Close>
            <button type="button" className="primary danger" onClick={() => void submit(onConfirm)}>
              {t("delete")}
            </button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
