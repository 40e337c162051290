// The texts of the page in the chosen language.

import { useMemo } from "react";
import { useStore } from "../lib/store";
import { language, type Language } from "../stores/preferences";
import { en, type MessageKey, type Messages } from "./en";
import { id } from "./id";

const MESSAGES: Record<Language, Messages> = { en, id };

/** Return the text of a key with its placeholders filled in. */
export type Translate = (key: MessageKey, ...values: (string | number)[]) => string;

export function useTranslate(): Translate {
  const current = useStore(language);
  return useMemo(() => translateInto(current), [current]);
}

function translateInto(target: Language): Translate {
  return (key, ...values) =>
    MESSAGES[target][key].replace(/\{(\d)\}/g, (_, index: string) => String(values[Number(index)] ?? ""));
}
