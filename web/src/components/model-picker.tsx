// Which model answers.

import { Select } from "@base-ui/react/select";
import { Check, ChevronDown } from "lucide-react";
import { useSay } from "../lib/say";

interface Props {
  models: string[];
  value: string;
  onChange: (name: string) => void;
}

export function ModelPicker({ models, value, onChange }: Props) {
  const say = useSay();
  const offered = models.includes(value) || !value ? models : [value, ...models];
  return (
    <Select.Root value={value} onValueChange={(name) => name && onChange(name)}>
      <Select.Trigger className="picker" aria-label={say("model")} id="model">
        <Select.Value />
        <Select.Icon>
          <ChevronDown aria-hidden />
        </Select.Icon>
      </Select.Trigger>
      <Select.Portal>
        <Select.Positioner sideOffset={4} alignItemWithTrigger={false} align="start">
          <Select.Popup className="menu">
            {offered.map((name) => (
              <Select.Item key={name} value={name} className="item">
                <span className="tick">
                  <Select.ItemIndicator>
                    <Check aria-hidden />
                  </Select.ItemIndicator>
                </span>
                <Select.ItemText>{name}</Select.ItemText>
              </Select.Item>
            ))}
          </Select.Popup>
        </Select.Positioner>
      </Select.Portal>
    </Select.Root>
  );
}
