// Every key that does something, in one list.

import { Dialog } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import { useSay } from "../lib/say";
import type { Words } from "../lib/words";

export const MOD = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

const KEYS: [keyof Words, string[]][] = [
  ["send", ["Enter"]],
  ["keyLine", ["Shift", "Enter"]],
  ["stop", ["Esc"]],
  ["keyAsk", ["/"]],
  ["keyEditLast", ["↑"]],
  ["regenerate", ["Alt", "R"]],
  ["copyAnswer", ["Alt", "C"]],
  ["fresh", [MOD, "Shift", "O"]],
  ["search", [MOD, "K"]],
  ["shortcuts", ["?"]],
];

export function Shortcuts({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const say = useSay();
  return (
    <Dialog.Root open={open} onOpenChange={onOpenChange}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <div className="row spread">
            <Dialog.Title>{say("shortcuts")}</Dialog.Title>
            <Dialog.Close className="icon" aria-label={say("close")}>
              <X />
            </Dialog.Close>
          </div>
          <dl className="keys">
            {KEYS.map(([word, keys]) => (
              <div key={word}>
                <dt>{say(word)}</dt>
                <dd>
                  {keys.map((one) => (
                    <kbd key={one}>{one}</kbd>
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
