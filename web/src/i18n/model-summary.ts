// A model in one line: where it comes from, what it does, its size and licence.

import type { ModelListItem } from "../lib/api-types";
import type { Format } from "./format";
import type { Translate } from "./translate";

export function modelSummary(model: ModelListItem, t: Translate, format: Format): string {
  if (model.kind === "path") return t("servedFromPath");
  const parts: string[] = [];
  if (model.kind === "base" && model.title) parts.push(model.title);
  if (model.base) parts.push(t("tunedFrom", model.base));
  if (model.task === "label") parts.push(t("assignsLabels", model.labels ?? 0));
  else if (model.task === "completion") parts.push(t("writesAnswers"));
  else if (model.task === "messages") parts.push(t("holdsConversations"));
  if (model.kind === "base" && model.parameters)
    parts.push(t("parametersInMillions", format.integer(model.parameters / 1e6)));
  if (model.size) parts.push(format.bytes(model.size));
  parts.push(model.licence ?? t("licenceNotStated"));
  return parts.join(" · ");
}
