// JSON bodies of the server's endpoints under /api.

export interface GenerationSettings {
  system: string;
  temperature: number;
  top_p: number;
  repetition_penalty: number;
  max_tokens: number;
  seed: number | null;
}

export const DEFAULT_SETTINGS: GenerationSettings = {
  system: "",
  temperature: 0.5,
  top_p: 0.9,
  repetition_penalty: 1.1,
  max_tokens: 1024,
  seed: null,
};

/** A conversation without its messages. `leaf` is the last message of the branch that is shown. */
export interface ConversationSummary {
  id: string;
  title: string;
  model: string;
  settings: GenerationSettings;
  leaf: number | null;
  created_at: string;
  updated_at: string;
  /** The text around a search match. */
  found: string | null;
}

interface LabelScore {
  label: string;
  logprob: number;
}

/** How an answer was generated; for a label, also its confidence and the other labels. */
export interface AnswerFacts {
  model?: string;
  prompt_tokens?: number;
  cached_tokens?: number;
  completion_tokens?: number;
  finish_reason?: "stop" | "length" | "cancelled";
  first_token_s?: number;
  tokens_per_s?: number | null;
  seed?: number;
  confidence?: number;
  out_of_scope?: boolean;
  labels?: LabelScore[];
}

export type Rating = "up" | "down" | null;

export interface Message {
  id: number;
  parent: number | null;
  role: "user" | "assistant";
  content: string;
  facts: AnswerFacts;
  created_at: string;
  verdict: Rating;
  correction: string | null;
}

export interface Conversation extends ConversationSummary {
  messages: Message[];
}

export interface Session {
  version: string;
  models: string[];
  /** Name of the key that signed in. */
  key: string;
}

export type StreamEvent =
  | { type: "begin"; question: Message; prompt_tokens: number }
  | { type: "text"; text: string; tokens: number }
  | { type: "end"; answer: Message }
  | { error: { message: string; code?: string | null } };

interface ModelFacts {
  name: string;
  kind: "base" | "specialist" | "path";
  title?: string | null;
  base?: string | null;
  task?: "label" | "completion" | "messages" | null;
  labels?: number;
  /** Context length: tokens of question and answer together. */
  context?: number | null;
  /** A specialist's result by its main metric. */
  score?: { metric: string; value: number; rows: number };
  parameters?: number;
  size?: number;
  format?: string;
  added_at?: string;
}

export interface ModelListItem extends ModelFacts {
  licence?: string | null;
}

export interface MetricValue {
  value: number;
  low: number;
  high: number;
  rows: number;
}

/** The result of one system of a comparison: the specialist, its base or a baseline. */
export interface SystemScore {
  name: string;
  split: string;
  ms_per_answer: number | null;
  sentence: string | null;
  /** Name of another system -> p-value of the paired test against the specialist. */
  p_values: Record<string, number>;
  metrics: Record<string, MetricValue>;
}

export interface LossCurve {
  steps: number[];
  losses: number[];
  dev_steps: number[];
  dev_losses: number[];
  best_epoch: number | null;
}

/** How a specialist was tuned, as the ledger recorded it. */
export interface TrainingRecord {
  lineage: { name: string; id: string; licence: string }[];
  sources: { path: string; sha256: string; licence: string; rows: Record<string, number> }[];
  left_out: number;
  reasons: [string, number][];
  run: {
    recipe: Record<string, unknown>;
    seed: number;
    code_version: string;
    machine: Record<string, unknown>;
    started_at: string;
    ended_at: string | null;
    facts: { seconds?: number; steps?: number };
  };
  curve: LossCurve;
  scores: SystemScore[];
  not_known: { what: string; about: string; more: string }[];
}

export interface ModelCard extends ModelFacts {
  id?: string;
  licence?: { id: string | null; title: string | null; note: string | null; according_to: string | null };
  config?: Record<string, unknown>;
  disclosure?: { in_files: string; statements: { according_to: string; says: string }[] };
  source?: { address: string; typed: string };
  instruction?: string | null;
  label_names?: string[];
  made?: TrainingRecord | null;
}

export interface DataRow {
  id: string;
  fields: Record<string, unknown>;
  source: string;
  number: number;
  licence: string;
}

export interface TuningRun {
  id: string;
  /** Name of the specialist that it will become. */
  name: string | null;
  /** Shell command that resumes it. */
  command: string | null;
  is_running: boolean;
  started_at: string;
  base: string;
  method: string;
  recipe: Record<string, unknown>;
  sources: Record<string, Record<string, number>>;
  step: number;
  steps: number;
  epoch: number;
  epochs: number;
  tokens: number;
  seconds: number;
  seconds_left: number | null;
  saved_at: string | null;
  curve: LossCurve;
}

export interface RatedAnswer extends Message {
  conversation: string;
  title: string;
  question: string;
}

export type RowKind = "labels" | "messages" | "preferences";

export interface Feedback {
  up: number;
  down: number;
  corrections: number;
  rows: Record<RowKind, number>;
  items: RatedAnswer[];
}
