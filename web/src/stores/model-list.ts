// What the lists show of each model; read once and again when somebody looks at the models.

import { call } from "./api";
import { Watched } from "./external";
import type { BriefInList } from "./types";

export const briefs = new Watched<BriefInList[]>([]);

export async function readBriefs(): Promise<void> {
  briefs.set((await call<{ models: BriefInList[] }>("GET", "/api/models")).models);
}
