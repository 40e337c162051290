// Who is signed in, and which models answer now: a specialist may have been made since.

import { call } from "./api";
import { readBriefs } from "./briefs";
import { Watched } from "./external";
import type { Me } from "./types";

export const me = new Watched<Me>({ version: "", models: [], key: "" });

export async function readMe(): Promise<void> {
  const [found] = await Promise.all([call<Me>("GET", "/api/me"), readBriefs()]);
  me.set(found);
}
