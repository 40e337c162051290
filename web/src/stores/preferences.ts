// What the browser remembers for itself: language, theme, the last model and settings. Nothing that anybody wrote.

import { Watched } from "./external";

export type Language = "en" | "id";
export type Theme = "system" | "light" | "dark";

function kept<T extends string>(name: string, allowed: readonly T[], otherwise: T): Watched<T> {
  const stored = localStorage.getItem(`empu.${name}`) as T | null;
  const value = new Watched<T>(stored && allowed.includes(stored) ? stored : otherwise);
  value.watch(() => localStorage.setItem(`empu.${name}`, value.get()));
  return value;
}

export const language = kept<Language>("language", ["en", "id"], /^(id|in)\b/i.test(navigator.language) ? "id" : "en");
export const theme = kept<Theme>("theme", ["system", "light", "dark"], "system");
export const lastModel = new Watched(localStorage.getItem("empu.model") ?? "");
lastModel.watch(() => localStorage.setItem("empu.model", lastModel.get()));

const dark = matchMedia("(prefers-color-scheme: dark)");

function paint(): void {
  const isDark = theme.get() === "dark" || (theme.get() === "system" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

function name(): void {
  document.documentElement.lang = language.get();
}

export function begin(): void {
  theme.watch(paint);
  dark.addEventListener("change", paint);
  language.watch(name);
  paint();
  name();
}
