// Markdown as marked's tokens, with maths. Nothing on this page is built from an HTML string: tags stay text.

import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from "marked";

export interface MathToken {
  type: "math";
  raw: string;
  text: string;
  display: boolean;
}

const BLOCK_MATH = /^ {0,3}(?:\$\$([\s\S]{1,5000}?)\$\$|\\\[([\s\S]{1,5000}?)\\\])[ \t]*(?:\n|$)/;
const INLINE_MATH =
  /^(?:\$\$([^\n$]{1,2000}?)\$\$|\\\(([^\n]{1,2000}?)\\\)|\\\[([^\n]{1,2000}?)\\\]|\$(?![\s$])((?:\\[^\n]|[^\n$\\]){0,1000}?(?:\\[^\n\s]|[^\n$\s\\]))\$(?!\d))/;

function mathToken(raw: string, text: string, display: boolean): MathToken {
  return { type: "math", raw, text: text.trim(), display };
}

const blockMath: TokenizerAndRendererExtension = {
  name: "math",
  level: "block",
  start: (source) => source.match(/(?:^|\n) {0,3}(?:\$\$|\\\[)/)?.index,
  tokenizer: (source) => {
    const match = BLOCK_MATH.exec(source);
    return match ? mathToken(match[0], match[1] ?? match[2] ?? "", true) : undefined;
  },
};

const inlineMath: TokenizerAndRendererExtension = {
  name: "math",
  level: "inline",
  start: (source) => {
    const index = source.search(/\$|\\[([]/);
    return index < 0 ? undefined : index;
  },
  tokenizer: (source) => {
    const match = INLINE_MATH.exec(source);
    if (!match) return undefined;
    const display = match[1] !== undefined || match[3] !== undefined;
    return mathToken(match[0], match[1] ?? match[2] ?? match[3] ?? match[4] ?? "", display);
  },
};

const marked = new Marked({ gfm: true, breaks: true });
marked.use({ extensions: [blockMath, inlineMath] });

const MAX_CHARACTERS = 200_000;

/** Parse Markdown into block tokens; null if the text is too long or too deeply nested. */
export function parseMarkdown(text: string): Token[] | null {
  if (text.length > MAX_CHARACTERS) return null;
  try {
    return marked.lexer(text);
  } catch {
    return null;
  }
}

/** Return `href` if a link may lead there (http, https or mailto), else null. */
export function safeHref(href: string): string | null {
  if (!/^(?:https?:\/\/|mailto:)[^\s<>"'`\\]+$/i.test(href)) return null;
  return URL.canParse(href) ? href : null;
}

const NAMED_ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Decode HTML entities. Marked leaves them to the browser's HTML parser, which this page does not use. */
export function decodeEntities(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi,
    (entity, decimal, hex, name) => {
      if (name) return NAMED_ENTITIES[String(name).toLowerCase()] ?? entity;
      const point = decimal ? Number(decimal) : parseInt(String(hex), 16);
      return point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff)
        ? String.fromCodePoint(point)
        : entity;
    },
  );
}

/** Markdown as plain text, for screen readers. */
export function markdownToText(text: string): string {
  const tokens = parseMarkdown(text);
  return tokens ? tokens.map(textOf).join(" ").replace(/\s+/g, " ").trim() : text;
}

function textOf(given: Token): string {
  const token = given as Tokens.Generic;
  if (token.type === "list") return (given as Tokens.List).items.map(textOf).join(". ");
  if (token.type === "table") {
    const { header, rows } = given as Tokens.Table;
    return [header, ...rows]
      .map((cells) => cells.map((cell) => cell.tokens.map(textOf).join("")).join(", "))
      .join(". ");
  }
  if (token.tokens) return token.tokens.map(textOf).join(token.type === "list_item" ? " " : "");
  return token.type === "checkbox" ? "" : decodeEntities((token.text as string | undefined) ?? " ");
}
