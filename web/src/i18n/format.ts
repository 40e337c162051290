// Numbers, durations and dates in the chosen language.

import { useMemo } from "react";
import { useStore } from "../lib/store";
import { language, type Language } from "../stores/preferences";

export interface Format {
  integer: (value: number) => string;
  decimal: (value: number, digits: number) => string;
  rate: (value: number) => string;
  /** A fraction of 1 as a percentage. */
  percent: (fraction: number) => string;
  duration: (seconds: number) => string;
  bytes: (value: number) => string;
  dateTime: (iso: string) => string;
}

export function useFormat(): Format {
  const current = useStore(language);
  return useMemo(() => formatFor(current), [current]);
}

function formatFor(target: Language): Format {
  const locale = target === "id" ? "id-ID" : "en-GB";
  const percentSign = target === "id" ? "%" : " %";
  const decimal = (value: number, digits: number): string =>
    value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return {
    integer: (value) => decimal(value, 0),
    decimal,
    rate: (value) => decimal(value, value < 10 ? 1 : 0),
    percent: (fraction) => `${decimal(100 * fraction, 1)}${percentSign}`,
    duration: (seconds) =>
      seconds < 1
        ? `${decimal(1000 * seconds, 0)} ms`
        : seconds < 90
          ? `${decimal(seconds, seconds < 10 ? 1 : 0)} s`
          : `${decimal(seconds / 60, 0)} min`,
    bytes: (value) =>
      value < 1e6
        ? `${decimal(value / 1e3, 0)} kB`
        : value < 1e9
          ? `${decimal(value / 1e6, 0)} MB`
          : `${decimal(value / 1e9, 1)} GB`,
    dateTime: (iso) =>
      new Date(iso).toLocaleString(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
  };
}
