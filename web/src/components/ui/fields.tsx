// Form fields with labels: any control, a slider, an integer.

import { useId, useState, type ReactNode } from "react";
import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";

interface FieldProps {
  label: string;
  /** Renders the control under the given id. */
  children: (id: string) => ReactNode;
}

export function Field({ label, children }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  );
}

interface SliderFieldProps {
  label: string;
  help: string;
  value: number;
  min: number;
  max: number;
  step: number;
  onChange: (value: number) => void;
}

export function SliderField({ label, help, value, min, max, step, onChange }: SliderFieldProps) {
  const id = useId();
  const format = useFormat();
  return (
    <div className="field">
      <div className="row space-between">
        <label htmlFor={id}>{label}</label>
        <output htmlFor={id}>{format.decimal(value, step < 0.1 ? 2 : 1)}</output>
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

interface IntegerInputProps {
  id: string;
  value: number | null;
  min: number;
  max: number;
  required?: boolean;
  placeholder?: string;
  onChange: (value: number | null) => void;
}

/** Reports a valid value when the field loses the focus; null for an empty field. */
export function IntegerInput({ id, value, min, max, required = false, placeholder, onChange }: IntegerInputProps) {
  const t = useTranslate();
  const format = useFormat();
  const [isInvalid, setIsInvalid] = useState(false);
  const isValid = ({ value: text, validity }: HTMLInputElement): boolean =>
    validity.valid && !(required && text === "");
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
        placeholder={placeholder}
        title={placeholder}
        aria-invalid={isInvalid || undefined}
        aria-describedby={isInvalid ? `${id}-error` : undefined}
        onChange={({ target }) => setIsInvalid(!isValid(target))}
        onBlur={({ target }) => {
          if (isValid(target)) onChange(target.value === "" ? null : target.valueAsNumber);
        }}
      />
      {isInvalid && (
        <p className="error" id={`${id}-error`} role="alert">
          {t("wholeNumber", format.integer(min), format.integer(max))}
        </p>
      )}
    </>
  );
}
