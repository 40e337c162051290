// The models that the server offers, for menus and lists.

import { request } from "../lib/api";
import type { ModelListItem } from "../lib/api-types";
import { Store } from "../lib/store";

export const modelList = new Store<ModelListItem[]>([]);

export async function refreshModelList(): Promise<void> {
  modelList.set((await request<{ models: ModelListItem[] }>("GET", "/api/models")).models);
}
