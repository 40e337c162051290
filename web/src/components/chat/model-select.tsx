// Which model answers.

import { Select } from "@base-ui/react/select";
import { Check, ChevronDown } from "lucide-react";
import { briefs } from "../lib/briefs";
import { useWatched } from "../lib/external";
import { readMe } from "../lib/me";
import { failed } from "../lib/notice";
import { useNumbers, useSay } from "../lib/say";
import { about } from "../pages/models";

interface Props {
  models: string[];
  value: string;
  onChange: (name: string) => void;
}

export function ModelPicker({ models, value, onChange }: Props) {
  const say = useSay();
  const numbers = useNumbers();
  const known = new Map(useWatched(briefs).map((one) => [one.name, one]));
  const said = (name: string): string => {
    const one = known.get(name);
    return one ? about(one, say, numbers) : "";
  };
  const offered = models.includes(value) || !value ? models : [value, ...models];
  return (
    <Select.Root
      value={value}
      onValueChange={(name) => name && onChange(name)}
      onOpenChange={(open) => open && void readMe().catch(failed)}
    >
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
                <span>
                  <Select.ItemText>{name}</Select.ItemText>
                  <span className="small block">{said(name)}</span>
                </span>
              </Select.Item>
            ))}
          </Select.Popup>
        </Select.Positioner>
      </Select.Portal>
    </Select.Root>
  );
}
