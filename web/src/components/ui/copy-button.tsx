// A button that copies a text and confirms it for a moment.

import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import type { MessageKey } from "../../i18n/en";
import { useTranslate } from "../../i18n/translate";
import { copyText } from "../../lib/clipboard";
import { IconButton } from "./icon-button";

export function CopyButton({ text, label = "copy" }: { text: string; label?: MessageKey }) {
  const t = useTranslate();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <IconButton
      label={t(copied ? "copied" : label)}
      onClick={() => void copyText(text).then(setCopied)}
      icon={copied ? <Check /> : <Copy />}
    />
  );
}
