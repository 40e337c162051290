// Renders Markdown as React elements. Every text is a text node, and nothing here loads anything.

import type { Token, Tokens } from "marked";
import { Fragment, memo, type ReactNode } from "react";
import { decodeEntities, parseMarkdown, safeHref, type MathToken } from "../../lib/markdown";
import { CodeBlock } from "./code-block";
import { MathFormula } from "./math";

/** Deeper nesting is shown as its source. */
const MAX_DEPTH = 12;

type Render = (token: Token, depth: number) => ReactNode;

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const tokens = parseMarkdown(text);
  if (!tokens) return <p className="plain-text">{text}</p>;
  return (
    <div className="markdown">
      {tokens.map((token, i) => (
        <Block key={i} token={token} />
      ))}
    </div>
  );
});

/** Renders a block again only when its source has changed: of a growing answer, only the last one. */
const Block = memo(
  ({ token }: { token: Token }) => <>{renderBlock(token, 0)}</>,
  (before, after) => before.token.raw === after.token.raw && before.token.type === after.token.type,
);

function renderAll(tokens: Token[] | undefined, depth: number, render: Render): ReactNode {
  return tokens?.map((token, i) => <Fragment key={i}>{render(token, depth)}</Fragment>);
}

function renderBlock(source: Token, depth: number): ReactNode {
  if (depth > MAX_DEPTH) return <p>{source.raw}</p>;
  const token = source as Tokens.Generic;
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      const Heading = `h${Math.min(6, (token.depth as number) + 2)}` as "h3"; // h1 and h2 belong to the page
      return <Heading>{renderAll(token.tokens, depth, renderInline)}</Heading>;
    }
    case "paragraph":
      return <p>{renderAll(token.tokens, depth, renderInline)}</p>;
    case "code":
      return <CodeBlock code={token.text as string} language={(token.lang as string | undefined) ?? ""} />;
    case "blockquote":
      return <blockquote>{renderAll(token.tokens, depth + 1, renderBlock)}</blockquote>;
    case "hr":
      return <hr />;
    case "list":
      return renderList(source as Tokens.List, depth);
    case "table":
      return renderTable(source as Tokens.Table, depth);
    case "math":
      return renderMath(source);
    case "html":
      return <p className="plain-text">{token.raw.trimEnd()}</p>;
    default:
      return renderInline(source, depth);
  }
}

function renderInline(source: Token, depth: number): ReactNode {
  if (depth > MAX_DEPTH) return source.raw;
  const token = source as Tokens.Generic;
  switch (token.type) {
    case "strong":
      return <strong>{renderAll(token.tokens, depth + 1, renderInline)}</strong>;
    case "em":
      return <em>{renderAll(token.tokens, depth + 1, renderInline)}</em>;
    case "del":
      return <del>{renderAll(token.tokens, depth + 1, renderInline)}</del>;
    case "codespan":
      return <code>{token.text as string}</code>;
    case "br":
      return <br />;
    case "link":
    case "image":
      return renderLink(token, depth);
    case "math":
      return renderMath(source);
    case "checkbox":
      return null; // rendered by its list item
    case "html":
      return token.raw;
    default:
      return token.tokens
        ? renderAll(token.tokens, depth + 1, renderInline)
        : decodeEntities((token.text as string | undefined) ?? token.raw);
  }
}

/** Render a link. An image becomes a link too: showing it would fetch it from elsewhere. */
function renderLink(token: Tokens.Generic, depth: number): ReactNode {
  const href = safeHref(decodeEntities(token.href as string));
  if (href === null) return token.raw;
  const label =
    token.type === "link" ? renderAll(token.tokens, depth + 1, renderInline) : (token.text as string) || href;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow" title={href}>
      {label}
    </a>
  );
}

function renderMath(token: Token): ReactNode {
  const { text, raw, display } = token as unknown as MathToken;
  return <MathFormula source={text} raw={raw} display={display} />;
}

function renderList(list: Tokens.List, depth: number): ReactNode {
  const items = list.items.map((item, i) => (
    <li key={i} className={item.task ? "task-item" : undefined}>
      {item.task && (
        <input type="checkbox" checked={item.checked ?? false} disabled aria-label={decodeEntities(item.text)} />
      )}
      {renderAll(item.tokens, depth + 1, renderBlock)}
    </li>
  ));
  return list.ordered ? <ol start={list.start === "" ? 1 : list.start}>{items}</ol> : <ul>{items}</ul>;
}

function renderTable(table: Tokens.Table, depth: number): ReactNode {
  const renderCell = (cell: Tokens.TableCell, key: number, Tag: "th" | "td"): ReactNode => (
    <Tag key={key} className={cell.align ?? undefined} scope={Tag === "th" ? "col" : undefined}>
      {renderAll(cell.tokens, depth + 1, renderInline)}
    </Tag>
  );
  return (
    <div className="table-scroll" tabIndex={0} role="group">
      <table>
        <thead>
          <tr>{table.header.map((cell, i) => renderCell(cell, i, "th"))}</tr>
        </thead>
        <tbody>
          {table.rows.map((row, i) => (
            <tr key={i}>{row.map((cell, j) => renderCell(cell, j, "td"))}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
