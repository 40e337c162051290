// A block of code with its language and a button that copies it.

import { useEffect, useState, type ReactNode } from "react";
import type { Tree } from "../lib/highlight";
import { useSay } from "../lib/say";
import { CopyButton } from "./copy-button";

const LONGEST = 50_000;

type Node = Tree["children"][number];

export function CodeBlock({ code, language }: { code: string; language: string }) {
  const say = useSay();
  const name = /^[\w+#.-]{1,30}/.exec(language)?.[0] ?? "";
  const [tree, setTree] = useState<{ code: string; tree: Tree | null } | null>(null);

  useEffect(() => {
    if (!name || code.length > LONGEST) return;
    let left = false;
    void import("../lib/highlight").then(({ highlight }) => {
      if (!left) setTree({ code, tree: highlight(code, name.toLowerCase()) });
    });
    return () => {
      left = true;
    };
  }, [code, name]);

  // While a block grows, the part that was coloured stays so, and what came since stands behind it.
  const known = tree?.tree && code.startsWith(tree.code) ? tree : null;
  return (
    <figure className="code">
      <figcaption>
        <span>{name || say("code")}</span>
        <CopyButton text={code} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{known?.tree ? [...known.tree.children.map(draw), code.slice(known.code.length)] : code}</code>
      </pre>
    </figure>
  );
}

function draw(node: Node, key: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const names = node.properties.className;
  return (
    <span key={key} className={Array.isArray(names) ? names.join(" ") : undefined}>
      {node.children.map((child, i) => draw(child as Node, i))}
    </span>
  );
}
