// An icon button whose label shows as a tooltip and is read by screen readers.

import { Tooltip } from "@base-ui/react/tooltip";
import type { ComponentProps, ReactNode } from "react";

interface Props extends Omit<ComponentProps<"button">, "children"> {
  label: string;
  icon: ReactNode;
}

export function IconButton({ label, icon, className = "", ...rest }: Props) {
  return (
    <Tooltip.Root>
      <Tooltip.Trigger type="button" className={`icon-button ${className}`} aria-label={label} {...rest}>
        {icon}
      </Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Positioner sideOffset={6}>
          <Tooltip.Popup className="tooltip">{label}</Tooltip.Popup>
        </Tooltip.Positioner>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}
