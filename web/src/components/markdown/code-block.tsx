// A code block with syntax highlighting, its language and a copy button.

import { useEffect, useState, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import type { HighlightTree } from "../../lib/highlight";
import { CopyButton } from "../ui/copy-button";

/** Longer code is shown without highlighting. */
const MAX_HIGHLIGHTED = 50_000;

type HighlightNode = HighlightTree["children"][number];

interface Highlighted {
  code: string;
  tree: HighlightTree | null;
}

export function CodeBlock({ code, language }: { code: string; language: string }) {
  const t = useTranslate();
  const languageName = /^[\w+#.-]{1,30}/.exec(language)?.[0] ?? "";
  const [highlighted, setHighlighted] = useState<Highlighted | null>(null);

  useEffect(() => {
    if (!languageName || code.length > MAX_HIGHLIGHTED) return;
    let cancelled = false;
    void import("../../lib/highlight").then(({ highlight }) => {
      if (!cancelled) setHighlighted({ code, tree: highlight(code, languageName.toLowerCase()) });
    });
    return () => {
      cancelled = true;
    };
  }, [code, languageName]);

  // While a block grows, its highlighted part stays, followed by the new text.
  const prefix = highlighted?.tree && code.startsWith(highlighted.code) ? highlighted : null;
  return (
    <figure className="code-block">
      <figcaption>
        <span>{languageName || t("code")}</span>
        <CopyButton text={code} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{prefix?.tree ? [...prefix.tree.children.map(renderNode), code.slice(prefix.code.length)] : code}</code>
      </pre>
    </figure>
  );
}

function renderNode(node: HighlightNode, key: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const classNames = node.properties.className;
  return (
    <span key={key} className={Array.isArray(classNames) ? classNames.join(" ") : undefined}>
      {node.children.map((child, i) => renderNode(child as HighlightNode, i))}
    </span>
  );
}
