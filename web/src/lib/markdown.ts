// Markdown as marked's tokens, with maths. No HTML is made here or anywhere: what looks like a tag stays text.

import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from "marked";

export interface MathToken {
  type: "math";
  raw: string;
  text: string;
  display: boolean;
}

const BLOCK = /^ {0,3}(?:\$\$([\s\S]{1,5000}?)\$\$|\\\[([\s\S]{1,5000}?)\\\])[ \t]*(?:\n|$)/;
const INLINE =
  /^(?:\$\$([^\n$]{1,2000}?)\$\$|\\\(([^\n]{1,2000}?)\\\)|\\\[([^\n]{1,2000}?)\\\]|\$(?![\s$])((?:\\[^\n]|[^\n$\\]){0,1000}?(?:\\[^\n\s]|[^\n$\s\\]))\$(?!\d))/;

function math(raw: string, text: string, display: boolean): MathToken {
  return { type: "math", raw, text: text.trim(), display };
}

const blockMath: TokenizerAndRendererExtension = {
  name: "math",
  level: "block",
  start: (source) => source.match(/(?:^|\n) {0,3}(?:\$\$|\\\[)/)?.index,
  tokenizer: (source) => {
    const found = BLOCK.exec(source);
    return found ? math(found[0], found[1] ?? found[2] ?? "", true) : undefined;
  },
};

const inlineMath: TokenizerAndRendererExtension = {
  name: "math",
  level: "inline",
  start: (source) => {
    const at = source.search(/\$|\\[([]/);
    return at < 0 ? undefined : at;
  },
  tokenizer: (source) => {
    const found = INLINE.exec(source);
    if (!found) return undefined;
    const display = found[1] !== undefined || found[3] !== undefined;
    return math(found[0], found[1] ?? found[2] ?? found[3] ?? found[4] ?? "", display);
  },
};

const marked = new Marked({ gfm: true, breaks: true });
marked.use({ extensions: [blockMath, inlineMath] });

const LONGEST = 200_000;

/** The blocks of a text; null where it is too long or too deeply nested to be read as Markdown. */
export function blocks(text: string): Token[] | null {
  if (text.length > LONGEST) return null;
  try {
    return marked.lexer(text);
  } catch {
    return null;
  }
}

/** An address that a link may lead to; null for every other. */
export function linkTarget(href: string): string | null {
  if (!/^(?:https?:\/\/|mailto:)[^\s<>"'`\\]+$/i.test(href)) return null;
  return URL.canParse(href) ? href : null;
}

const NAMED: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Marked leaves entities to the browser's HTML parser, which has no part in this page. */
export function plain(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi,
    (whole, decimal, hex, named) => {
      if (named) return NAMED[String(named).toLowerCase()] ?? whole;
      const point = decimal ? Number(decimal) : parseInt(String(hex), 16);
      return point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff)
        ? String.fromCodePoint(point)
        : whole;
    },
  );
}

/** The words of a text without its signs, as they are read aloud. */
export function spoken(text: string): string {
  const tokens = blocks(text);
  return tokens ? tokens.map(words).join(" ").replace(/\s+/g, " ").trim() : text;
}

function words(given: Token): string {
  const token = given as Tokens.Generic;
  if (token.type === "list") return (given as Tokens.List).items.map(words).join(". ");
  if (token.type === "table") {
    const { header, rows } = given as Tokens.Table;
    return [header, ...rows].map((cells) => cells.map((cell) => cell.tokens.map(words).join("")).join(", ")).join(". ");
  }
  if (token.tokens) return token.tokens.map(words).join(token.type === "list_item" ? " " : "");
  return token.type === "checkbox" ? "" : plain((token.text as string | undefined) ?? " ");
}
