// What was typed and not sent, by conversation, for as long as the tab is open.

const PREFIX = "draft:";

export function draftOf(place: string): string {
  return sessionStorage.getItem(PREFIX + place) ?? "";
}

export function keepDraft(place: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(PREFIX + place, text);
    else sessionStorage.removeItem(PREFIX + place);
  } catch {
    sessionStorage.removeItem(PREFIX + place); // more than the browser keeps: it stands in its field alone
  }
}

/** Whoever signs in next in this tab finds nothing of them. */
export function forgetDrafts(): void {
  for (const name of Object.keys(sessionStorage)) if (name.startsWith(PREFIX)) sessionStorage.removeItem(name);
}
