// The dialog that lists all keyboard shortcuts.

import { Dialog } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import type { MessageKey } from "../../i18n/en";
import { useTranslate } from "../../i18n/translate";

const MOD = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

const SHORTCUTS: [action: MessageKey, keys: string[]][] = [
  ["send", ["Enter"]],
  ["newLine", ["Shift", "Enter"]],
  ["stop", ["Esc"]],
  ["focusComposer", ["/"]],
  ["editLastQuestion", ["↑"]],
  ["regenerate", ["Alt", "R"]],
  ["copyAnswer", ["Alt", "C"]],
  ["newConversation", [MOD, "Shift", "O"]],
  ["searchConversations", [MOD, "K"]],
  ["shortcuts", ["?"]],
];

export function ShortcutsDialog({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const t = useTranslate();
  return (
    <Dialog.Root open={open} onOpenChange={onOpenChange}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <div className="row space-between">
            <Dialog.Title>{t("shortcuts")}</Dialog.Title>
            <Dialog.Close className="icon-button" aria-label={t("close")}>
              <X />
            </Dialog.Close>
          </div>
          <dl className="shortcut-list">
            {SHORTCUTS.map(([action, keys]) => (
              <div key={action}>
                <dt>{t(action)}</dt>
                <dd>
                  {keys.map((key) => (
                    <kbd key={key}>{key}</kbd>
                  ))}
                </dd>
              </div>
            ))}
          </dl>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
