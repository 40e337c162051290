// Selects the model that answers.

import { Select } from "@base-ui/react/select";
import { Check, ChevronDown } from "lucide-react";
import { useFormat } from "../../i18n/format";
import { modelSummary } from "../../i18n/model-summary";
import { useTranslate } from "../../i18n/translate";
import { useStore } from "../../lib/store";
import { modelList } from "../../stores/model-list";
import { refreshSession } from "../../stores/session";
import { showError } from "../../stores/toast";

interface Props {
  models: string[];
  value: string;
  onChange: (name: string) => void;
}

export function ModelSelect({ models, value, onChange }: Props) {
  const t = useTranslate();
  const format = useFormat();
  const known = new Map(useStore(modelList).map((model) => [model.name, model]));
  const summaryOf = (name: string): string => {
    const model = known.get(name);
    return model ? modelSummary(model, t, format) : "";
  };
  const options = models.includes(value) || !value ? models : [value, ...models];
  return (
    <Select.Root
      value={value}
      onValueChange={(name) => name && onChange(name)}
      onOpenChange={(open) => open && void refreshSession().catch(showError)}
    >
      <Select.Trigger className="model-select" aria-label={t("model")} id="model-select">
        <Select.Value />
        <Select.Icon>
          <ChevronDown aria-hidden />
        </Select.Icon>
      </Select.Trigger>
      <Select.Portal>
        <Select.Positioner sideOffset={4} alignItemWithTrigger={false} align="start">
          <Select.Popup className="menu">
            {options.map((name) => (
              <Select.Item key={name} value={name} className="menu-item">
                <span className="menu-check">
                  <Select.ItemIndicator>
                    <Check aria-hidden />
                  </Select.ItemIndicator>
                </span>
                <span>
                  <Select.ItemText>{name}</Select.ItemText>
                  <span className="small block">{summaryOf(name)}</span>
                </span>
              </Select.Item>
            ))}
          </Select.Popup>
        </Select.Positioner>
      </Select.Portal>
    </Select.Root>
  );
}
