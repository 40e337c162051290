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
}

export type StreamEvent =
  | { type: "begin"; question: Message; prompt_tokens: number }
  | { type: "text"; text: string; tokens: number }
  | { type: "end"; answer: Message }
  | { error: { message: string } };
