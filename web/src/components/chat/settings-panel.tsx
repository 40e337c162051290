// The system prompt, and how words are drawn.

import { Popover } from "@base-ui/react/popover";
import { SlidersHorizontal } from "lucide-react";
import { useId, useState, type ReactNode } from "react";
import { useNumbers, useSay } from "../lib/say";
import { DEFAULTS, type Settings } from "../lib/types";

/** More than any model has of context, for one of which no more is known. */
const MOST_TOKENS = 1_000_000;

interface Props {
  settings: Settings;
  /** Tokens that the model has room for, if that is known. */
  longest: number | null;
  /** Whether its words are drawn; a label is not. */
  isDrawn: boolean;
  onChange: (changed: Partial<Settings>) => void;
}

export function SettingsPanel({ settings, longest, isDrawn, onChange: set }: Props) {
  const say = useSay();
  const changed = (Object.keys(DEFAULTS) as (keyof Settings)[]).some((name) => settings[name] !== DEFAULTS[name]);
  return (
    <Popover.Root>
      <Popover.Trigger className="quiet settings" aria-label={say("settings")}>
        <SlidersHorizontal aria-hidden /> <span className="wide">{say("settings")}</span>
        {changed && isDrawn && <span className="dot" />}
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Positioner sideOffset={6} align="end">
          <Popover.Popup className="panel">
            <Popover.Title>{say("settings")}</Popover.Title>
            <Popover.Description>{say(isDrawn ? "settingsHelp" : "settingsOfLabels")}</Popover.Description>
            {isDrawn && <Drawing settings={settings} most={longest ?? MOST_TOKENS} onChange={set} />}
            {isDrawn && (
              <button type="button" className="quiet" disabled={!changed} onClick={() => set(DEFAULTS)}>
                {say("reset")}
              </button>
            )}
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  );
}

interface DrawingProps {
  settings: Settings;
  most: number;
  onChange: (changed: Partial<Settings>) => void;
}

function Drawing({ settings, most, onChange: set }: DrawingProps) {
  const say = useSay();
  return (
    <>
      <Field label={say("systemPrompt")}>
        {(name) => (
          <textarea
            id={name}
            rows={4}
            value={settings.system}
            placeholder={say("systemHint")}
            onChange={(event) => set({ system: event.target.value })}
          />
        )}
      </Field>
      <Slide
        label={say("temperature")}
        help={say("temperatureHelp")}
        value={settings.temperature}
        min={0}
        max={2}
        step={0.1}
        onChange={(temperature) => set({ temperature })}
      />
      <Slide
        label={say("topP")}
        help={say("topPHelp")}
        value={settings.top_p}
        min={0.05}
        max={1}
        step={0.05}
        onChange={(top_p) => set({ top_p })}
      />
      <Slide
        label={say("penalty")}
        help={say("penaltyHelp")}
        value={settings.repetition_penalty}
        min={1}
        max={1.5}
        step={0.05}
        onChange={(repetition_penalty) => set({ repetition_penalty })}
      />
      <div className="pair">
        <Field label={say("maxTokens")}>
          {(name) => (
            <WholeNumber
              id={name}
              value={settings.max_tokens}
              min={1}
              max={most}
              required
              onChange={(value) => value !== null && set({ max_tokens: value })}
            />
          )}
        </Field>
        <Field label={say("seed")}>
          {(name) => (
            <WholeNumber
              id={name}
              value={settings.seed}
              min={0}
              max={Number.MAX_SAFE_INTEGER}
              hint={say("seedHint")}
              onChange={(seed) => set({ seed })}
            />
          )}
        </Field>
      </div>
    </>
  );
}

function Field({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  );
}

interface SlideProps {
  label: string;
  help: string;
  value: number;
  min: number;
  max: number;
  step: number;
  onChange: (value: number) => void;
}

function Slide({ label, help, value, min, max, step, onChange }: SlideProps) {
  const id = useId();
  const numbers = useNumbers();
  return (
    <div className="field">
      <div className="row spread">
        <label htmlFor={id}>{label}</label>
        <output htmlFor={id}>{numbers.fixed(value, step < 0.1 ? 2 : 1)}</output>
      </div>
      <input
        id={id}
        type="range"
        {...{ min, max, step, value }}
        aria-describedby={`${id}-help`}
        onChange={(event) => onChange(Number(event.target.value))}
      />
      <p className="small" id={`${id}-help`}>
        {help}
      </p>
    </div>
  );
}

interface NumberProps {
  id: string;
  value: number | null;
  min: number;
  max: number;
  required?: boolean;
  hint?: string;
  onChange: (value: number | null) => void;
}

function WholeNumber({ id, value, min, max, required = false, hint, onChange }: NumberProps) {
  const say = useSay();
  const numbers = useNumbers();
  const [wrong, setWrong] = useState(false);
  return (
    <>
      <input
        id={id}
        type="number"
        inputMode="numeric"
        min={min}
        max={max}
        step={1}
        key={value}
        defaultValue={value ?? ""}
        placeholder={hint}
        title={hint}
        aria-invalid={wrong || undefined}
        aria-describedby={wrong ? `${id}-wrong` : undefined}
        onChange={(event) => setWrong(!event.target.validity.valid || (required && event.target.value === ""))}
        onBlur={(event) => {
          const { value: words, validity, valueAsNumber } = event.target;
          if (validity.valid && !(required && words === "")) onChange(words === "" ? null : valueAsNumber);
        }}
      />
      {wrong && (
        <p className="error" id={`${id}-wrong`} role="alert">
          {say("wholeNumber", numbers.count(min), numbers.count(max))}
        </p>
      )}
    </>
  );
}
