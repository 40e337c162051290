// What the server's addresses under /api give.

export interface Settings {
  system: string;
  temperature: number;
  top_p: number;
  repetition_penalty: number;
  max_tokens: number;
  seed: number | null;
}

export const DEFAULTS: Settings = {
  system: "",
  temperature: 0.5,
  top_p: 0.9,
  repetition_penalty: 1.1,
  max_tokens: 1024,
  seed: null,
};

export interface Heading {
  id: string;
  title: string;
  model: string;
  settings: Settings;
  leaf: number | null;
  created_at: string;
  updated_at: string;
  found: string | null;
}

export interface Label {
  label: string;
  logprob: number;
}

export interface Facts {
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
  labels?: Label[];
}

export type Verdict = "up" | "down" | null;

export interface Message {
  id: number;
  parent: number | null;
  role: "user" | "assistant";
  content: string;
  facts: Facts;
  created_at: string;
  verdict: Verdict;
  correction: string | null;
}

export interface Conversation extends Heading {
  messages: Message[];
}

export interface Me {
  version: string;
  models: string[];
  /** The name of the key that is signed in. */
  key: string;
}

export type StreamEvent =
  | { type: "begin"; question: Message; prompt_tokens: number }
  | { type: "text"; text: string; tokens: number }
  | { type: "end"; answer: Message }
  | { error: { message: string; code?: string | null } };

export interface Brief {
  name: string;
  kind: "base" | "specialist" | "path";
  title?: string | null;
  base?: string | null;
  task?: "label" | "completion" | "messages" | null;
  labels?: number;
  /** Tokens of question and answer together. */
  context?: number | null;
  /** How well a specialist did, by its first measure. */
  score?: { metric: string; value: number; rows: number };
  parameters?: number;
  size?: number;
  format?: string;
  added_at?: string;
}

export interface BriefInList extends Brief {
  licence?: string | null;
}

export interface Metric {
  value: number;
  low: number;
  high: number;
  rows: number;
}

export interface Score {
  name: string;
  split: string;
  ms_per_answer: number | null;
  sentence: string | null;
  /** Name of another contestant -> p of the paired test against the specialist. */
  p_values: Record<string, number>;
  metrics: Record<string, Metric>;
}

export interface Curve {
  steps: number[];
  losses: number[];
  dev_steps: number[];
  dev_losses: number[];
  best_epoch: number | null;
}

export interface Made {
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
  curve: Curve;
  scores: Score[];
  not_known: { what: string; about: string; more: string }[];
}

export interface Card extends Brief {
  id?: string;
  licence?: { id: string | null; title: string | null; note: string | null; according_to: string | null };
  config?: Record<string, unknown>;
  disclosure?: { in_files: string; statements: { according_to: string; says: string }[] };
  source?: { address: string; typed: string };
  instruction?: string | null;
  label_names?: string[];
  made?: Made | null;
}

export interface Row {
  id: string;
  fields: Record<string, unknown>;
  source: string;
  number: number;
  licence: string;
}

export interface Run {
  id: string;
  /** What the specialist will be called. */
  name: string | null;
  /** What a shell is told to go on. */
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
  curve: Curve;
}

export interface Judged extends Message {
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
  items: Judged[];
}
