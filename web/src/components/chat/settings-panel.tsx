// The popover with the system prompt and the sampling settings.

import { Popover } from "@base-ui/react/popover";
import { SlidersHorizontal } from "lucide-react";
import { useTranslate } from "../../i18n/translate";
import { DEFAULT_SETTINGS, type GenerationSettings } from "../../lib/api-types";
import { Field, IntegerInput, SliderField } from "../ui/fields";

/** Limit for a model of unknown context length: more than any has. */
const MAX_CONTEXT_LENGTH = 1_000_000;

interface Props {
  settings: GenerationSettings;
  contextLength: number | null;
  /** Whether the model samples tokens. One that assigns labels does not. */
  isSampled: boolean;
  onChange: (changes: Partial<GenerationSettings>) => void;
}

export function SettingsPanel({ settings, contextLength, isSampled, onChange }: Props) {
  const t = useTranslate();
  const names = Object.keys(DEFAULT_SETTINGS) as (keyof GenerationSettings)[];
  const isChanged = names.some((name) => settings[name] !== DEFAULT_SETTINGS[name]);
  return (
    <Popover.Root>
      <Popover.Trigger className="subtle settings-button" aria-label={t("settings")}>
        <SlidersHorizontal aria-hidden /> <span className="hide-on-phone">{t("settings")}</span>
        {isChanged && isSampled && <span className="changed-dot" />}
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Positioner sideOffset={6} align="end">
          <Popover.Popup className="panel">
            <Popover.Title>{t("settings")}</Popover.Title>
            <Popover.Description>{t(isSampled ? "settingsHelp" : "noSettingsForLabels")}</Popover.Description>
            {isSampled && (
              <>
                <SettingsFields
                  settings={settings}
                  maxTokens={contextLength ?? MAX_CONTEXT_LENGTH}
                  onChange={onChange}
                />
                <button
                  type="button"
                  className="subtle"
                  disabled={!isChanged}
                  onClick={() => onChange(DEFAULT_SETTINGS)}
                >
                  {t("reset")}
                </button>
              </>
            )}
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  );
}

interface FieldsProps {
  settings: GenerationSettings;
  maxTokens: number;
  onChange: (changes: Partial<GenerationSettings>) => void;
}

function SettingsFields({ settings, maxTokens, onChange }: FieldsProps) {
  const t = useTranslate();
  return (
    <>
      <Field label={t("systemPrompt")}>
        {(id) => (
          <textarea
            id={id}
            rows={4}
            value={settings.system}
            placeholder={t("systemPromptPlaceholder")}
            onChange={(event) => onChange({ system: event.target.value })}
          />
        )}
      </Field>
      <SliderField
        label={t("temperature")}
        help={t("temperatureHelp")}
        value={settings.temperature}
        min={0}
        max={2}
        step={0.1}
        onChange={(temperature) => onChange({ temperature })}
      />
      <SliderField
        label={t("topP")}
        help={t("topPHelp")}
        value={settings.top_p}
        min={0.05}
        max={1}
        step={0.05}
        onChange={(top_p) => onChange({ top_p })}
      />
      <SliderField
        label={t("repetitionPenalty")}
        help={t("repetitionPenaltyHelp")}
        value={settings.repetition_penalty}
        min={1}
        max={1.5}
        step={0.05}
        onChange={(repetition_penalty) => onChange({ repetition_penalty })}
      />
      <div className="two-columns">
        <Field label={t("maxTokens")}>
          {(id) => (
            <IntegerInput
              id={id}
              value={settings.max_tokens}
              min={1}
              max={maxTokens}
              required
              onChange={(max_tokens) => max_tokens !== null && onChange({ max_tokens })}
            />
          )}
        </Field>
        <Field label={t("seed")}>
          {(id) => (
            <IntegerInput
              id={id}
              value={settings.seed}
              min={0}
              max={Number.MAX_SAFE_INTEGER}
              placeholder={t("seedPlaceholder")}
              onChange={(seed) => onChange({ seed })}
            />
          )}
        </Field>
      </div>
    </>
  );
}
