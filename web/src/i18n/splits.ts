// The three splits of the rows, under the names that the server gives them.

import type { MessageKey } from "./en";

export type Split = "train" | "dev" | "test";

export const SPLITS: Split[] = ["train", "dev", "test"];

export const SPLIT_NAME = { train: "training", dev: "validation", test: "test" } satisfies Record<Split, MessageKey>;
export const SPLIT_ROWS = {
  train: "trainingRows",
  dev: "validationRows",
  test: "testRows",
} satisfies Record<Split, MessageKey>;
export const SPLIT_ROW_COUNT = {
  train: "trainingRowCount",
  dev: "validationRowCount",
  test: "testRowCount",
} satisfies Record<Split, MessageKey>;
