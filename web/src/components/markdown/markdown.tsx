// A model's words on the page. Every element is one of ours, every text a text node; nothing here loads anything.

import { Fragment, memo, type ReactNode } from "react";
import type { Token, Tokens } from "marked";
import { blocks, linkTarget, plain, type MathToken } from "../lib/markdown";
import { CodeBlock } from "./code-block";
import { MathText } from "./math-text";

const DEEPEST = 12;

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const tokens = blocks(text);
  if (!tokens) return <p className="plain">{text}</p>;
  return (
    <div className="words">
      {tokens.map((token, i) => (
        <Block key={i} raw={token.raw} token={token} />
      ))}
    </div>
  );
});

/** A block is drawn again only when its source has changed: of a growing answer, only the last one. */
const Block = memo(
  ({ token }: { raw: string; token: Token }) => <>{block(token, 0)}</>,
  (before, after) => before.raw === after.raw && before.token.type === after.token.type,
);

function all(tokens: Token[] | undefined, depth: number, draw: (token: Token, depth: number) => ReactNode): ReactNode {
  return tokens?.map((token, i) => <Fragment key={i}>{draw(token, depth)}</Fragment>);
}

function block(given: Token, depth: number): ReactNode {
  if (depth > DEEPEST) return <p>{given.raw}</p>;
  const token = given as Tokens.Generic;
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      const Level = `h${Math.min(6, (token.depth as number) + 2)}` as "h3";
      return <Level>{all(token.tokens, depth, inline)}</Level>;
    }
    case "paragraph":
      return <p>{all(token.tokens, depth, inline)}</p>;
    case "code":
      return <CodeBlock code={token.text as string} language={(token.lang as string | undefined) ?? ""} />;
    case "blockquote":
      return <blockquote>{all(token.tokens, depth + 1, block)}</blockquote>;
    case "hr":
      return <hr />;
    case "list":
      return list(given as Tokens.List, depth);
    case "table":
      return table(given as Tokens.Table, depth);
    case "math":
      return mathOf(given);
    case "html":
      return <p className="plain">{token.raw.trimEnd()}</p>;
    default:
      return inline(given, depth);
  }
}

function inline(given: Token, depth: number): ReactNode {
  if (depth > DEEPEST) return given.raw;
  const token = given as Tokens.Generic;
  switch (token.type) {
    case "strong":
      return <strong>{all(token.tokens, depth + 1, inline)}</strong>;
    case "em":
      return <em>{all(token.tokens, depth + 1, inline)}</em>;
    case "del":
      return <del>{all(token.tokens, depth + 1, inline)}</del>;
    case "codespan":
      return <code>{token.text as string}</code>;
    case "br":
      return <br />;
    case "link":
    case "image":
      return link(token, depth);
    case "math":
      return mathOf(given);
    case "checkbox":
      return null; // drawn by its list
    case "html":
      return token.raw;
    default:
      return token.tokens
        ? all(token.tokens, depth + 1, inline)
        : plain((token.text as string | undefined) ?? token.raw);
  }
}

/** A picture would be fetched from elsewhere, so that it becomes a link; a link is followed when it is clicked. */
function link(token: Tokens.Generic, depth: number): ReactNode {
  const target = linkTarget(plain(token.href as string));
  if (target === null) return token.raw;
  const label = token.type === "link" ? all(token.tokens, depth + 1, inline) : (token.text as string) || target;
  return (
    <a href={target} target="_blank" rel="noopener noreferrer nofollow" title={target}>
      {label}
    </a>
  );
}

function mathOf(token: Token): ReactNode {
  const { text, raw, display } = token as unknown as MathToken;
  return <MathText source={text} raw={raw} display={display} />;
}

function list(token: Tokens.List, depth: number): ReactNode {
  const items = token.items.map((item, i) => (
    <li key={i} className={item.task ? "task" : undefined}>
      {item.task && <input type="checkbox" checked={item.checked ?? false} disabled aria-label={plain(item.text)} />}
      {all(item.tokens, depth + 1, block)}
    </li>
  ));
  return token.ordered ? <ol start={token.start === "" ? 1 : token.start}>{items}</ol> : <ul>{items}</ul>;
}

function table(token: Tokens.Table, depth: number): ReactNode {
  const cell = (one: Tokens.TableCell, i: number, Tag: "th" | "td"): ReactNode => (
    <Tag key={i} className={one.align ?? undefined} scope={Tag === "th" ? "col" : undefined}>
      {all(one.tokens, depth + 1, inline)}
    </Tag>
  );
  return (
    <div className="table" tabIndex={0} role="group">
      <table>
        <thead>
          <tr>{token.header.map((one, i) => cell(one, i, "th"))}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, i) => (
            <tr key={i}>{row.map((one, j) => cell(one, j, "td"))}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
