// Copies a text and says so for a moment.

import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import { useSay } from "../lib/say";
import type { Words } from "../lib/words";
import { IconButton } from "./icon-button";

export function CopyButton({ text, label = "copy" }: { text: string; label?: keyof Words }) {
  const say = useSay();
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  return (
    <IconButton
      label={done ? say("copied") : say(label)}
      onClick={() => void copy(text).then(setDone)}
      icon={done ? <Check /> : <Copy />}
    />
  );
}

/** The clipboard's own interface exists only on loopback and over TLS. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
