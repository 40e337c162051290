// Preferences that the browser keeps: language, theme and the last model. Nothing that a user wrote.

import { Store } from "../lib/store";

export type Language = "en" | "id";
export type Theme = "system" | "light" | "dark";

const defaultLanguage: Language = /^(id|in)\b/i.test(navigator.language) ? "id" : "en";

export const language = persisted<Language>("language", defaultLanguage, ["en", "id"]);
export const theme = persisted<Theme>("theme", "system", ["system", "light", "dark"]);
export const lastModel = persisted<string>("model", "");

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** Apply language and theme to the document, now and whenever they change. */
export function applyPreferences(): void {
  theme.subscribe(applyTheme);
  prefersDark.addEventListener("change", applyTheme);
  language.subscribe(applyLanguage);
  applyTheme();
  applyLanguage();
}

function applyTheme(): void {
  const isDark = theme.get() === "dark" || (theme.get() === "system" && prefersDark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

function applyLanguage(): void {
  document.documentElement.lang = language.get();
}

function persisted<T extends string>(name: string, defaultValue: T, allowed?: readonly T[]): Store<T> {
  const key = `empu.${name}`;
  const stored = localStorage.getItem(key) as T | null;
  const isValid = stored !== null && (allowed?.includes(stored) ?? true);
  const store = new Store<T>(isValid ? stored : defaultValue);
  store.subscribe(() => localStorage.setItem(key, store.get()));
  return store;
}
