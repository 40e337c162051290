// What was typed and not sent, by conversation, for as long as the tab is open.

const PREFIX = "draft:";

export function draftOf(place: string): string {
  return sessionStorage.getItem(PREFIX + place) ?? "";
}

export function keepDraft(place: string, text: string): void {
  if (text) sessionStorage.setItem(PREFIX + place, text);
  else sessionStorage.removeItem(PREFIX + place);
}
