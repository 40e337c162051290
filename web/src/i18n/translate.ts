// Words and numbers in the chosen language.

import { useMemo } from "react";
import { useWatched } from "./external";
import { language, type Language } from "./prefs";
import { en, id, type Words } from "./words";

const ALL: Record<Language, Words> = { en, id };

export type Say = (word: keyof Words, ...filled: (string | number)[]) => string;

export function useSay(): Say {
  const chosen = useWatched(language);
  return useMemo(() => sayIn(chosen), [chosen]);
}

function sayIn(chosen: Language): Say {
  return (word, ...filled) =>
    ALL[chosen][word].replace(/\{(\d)\}/g, (_, at: string) => String(filled[Number(at)] ?? ""));
}

export interface Numbers {
  count: (value: number) => string;
  fixed: (value: number, digits: number) => string;
  rate: (value: number) => string;
  percent: (value: number, digits?: number) => string;
  seconds: (value: number) => string;
  bytes: (value: number) => string;
  day: (iso: string) => string;
  moment: (iso: string) => string;
}

export function useNumbers(): Numbers {
  const chosen = useWatched(language);
  return useMemo(() => numbersIn(chosen), [chosen]);
}

function numbersIn(chosen: Language): Numbers {
  const locale = chosen === "id" ? "id-ID" : "en-GB";
  const format = (value: number, options: Intl.NumberFormatOptions): string => value.toLocaleString(locale, options);
  const fixed = (value: number, digits: number): string =>
    format(value, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const date = (iso: string, options: Intl.DateTimeFormatOptions): string =>
    new Date(iso).toLocaleString(locale, options);
  return {
    count: (value) => format(value, { maximumFractionDigits: 0 }),
    fixed,
    rate: (value) => fixed(value, value < 10 ? 1 : 0),
    percent: (value, digits = 1) => `${fixed(100 * value, digits)} %`,
    seconds: (value) =>
      value < 1
        ? `${fixed(1000 * value, 0)} ms`
        : value < 90
          ? `${fixed(value, value < 10 ? 1 : 0)} s`
          : `${fixed(value / 60, 0)} min`,
    bytes: (value) =>
      value < 1e6
        ? `${fixed(value / 1e3, 0)} kB`
        : value < 1e9
          ? `${fixed(value / 1e6, 0)} MB`
          : `${fixed(value / 1e9, 1)} GB`,
    day: (iso) => date(iso, { day: "numeric", month: "short", year: "numeric" }),
    moment: (iso) => date(iso, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
  };
}
