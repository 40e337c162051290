// Two questions that the page asks: are you sure, and what shall it read.

import { AlertDialog } from "@base-ui/react/alert-dialog";
import { Dialog } from "@base-ui/react/dialog";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import { useSay } from "../lib/say";
import { told } from "../lib/told";

interface Common {
  open: boolean;
  onClose: () => void;
  title: string;
}

export function Confirm({ open, onClose, title, said, onYes }: Common & { said: string; onYes: () => Promise<void> }) {
  const say = useSay();
  const { problem, attempt } = useAttempt(onClose);
  return (
    <AlertDialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="backdrop" />
        <AlertDialog.Popup className="dialog">
          <AlertDialog.Title>{title}</AlertDialog.Title>
          <AlertDialog.Description>{said}</AlertDialog.Description>
          <Problem text={problem} />
          <div className="row end">
            <AlertDialog.Close>{say("cancel")}</AlertDialog.Close>
            <button type="button" className="primary danger" onClick={() => void attempt(onYes)}>
              {say("remove")}
            </button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}

interface PromptProps extends Common {
  label: string;
  value: string;
  said?: string;
  lines?: number;
  /** What is usually chosen; anything else has to be asked for. */
  options?: string[];
  maxLength?: number;
  more?: ReactNode;
  onSave: (text: string) => Promise<void>;
}

export function Prompt(props: PromptProps) {
  const { open, onClose, title, label, value, said, lines = 1, options = [], maxLength, more, onSave } = props;
  const say = useSay();
  const [other, setOther] = useState(false);
  const { problem, attempt } = useAttempt(onClose);
  useEffect(() => {
    if (!open) setOther(false);
  }, [open]);
  const submit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget).get("text"));
    void attempt(() => onSave(text));
  };
  return (
    <Dialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <Dialog.Title>{title}</Dialog.Title>
          {said && <Dialog.Description>{said}</Dialog.Description>}
          <form onSubmit={submit}>
            {options.length > 0 && !other ? (
              <div className="row">
                <select name="text" aria-label={label} defaultValue={value}>
                  {(options.includes(value) ? options : [value, ...options]).map((option) => (
                    <option key={option}>{option}</option>
                  ))}
                </select>
                <button type="button" className="quiet" onClick={() => setOther(true)}>
                  {say("otherLabel")}
                </button>
              </div>
            ) : lines > 1 ? (
              <textarea
                name="text"
                aria-label={label}
                rows={lines}
                defaultValue={value}
                maxLength={maxLength}
                required
              />
            ) : (
              <input
                name="text"
                aria-label={label}
                defaultValue={value}
                maxLength={maxLength}
                required
                autoFocus={other}
                onFocus={(event) => event.target.select()}
              />
            )}
            <Problem text={problem} />
            <div className="row end">
              {more}
              <Dialog.Close>{say("cancel")}</Dialog.Close>
              <button type="submit" className="primary">
                {say("save")}
              </button>
            </div>
          </form>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function Problem({ text }: { text: string }) {
  return (
    <p className="error" role="alert">
      {text}
    </p>
  );
}

function useAttempt(onDone: () => void): { problem: string; attempt: (work: () => Promise<void>) => Promise<void> } {
  const say = useSay();
  const [problem, setProblem] = useState("");
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      setProblem("");
      onDone();
    } catch (error) {
      setProblem(told(error, say));
    }
  };
  return { problem, attempt };
}
