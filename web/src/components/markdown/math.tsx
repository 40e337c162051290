// A formula, rendered by KaTeX, which loads with the first one. Invalid formulas show their source.

import { useEffect, useRef, useState } from "react";

type Katex = typeof import("katex").default;

let katexModule: Katex | null = null;
let katexPromise: Promise<Katex> | null = null;

function loadKatex(): Promise<Katex> {
  katexPromise ??= Promise.all([import("katex"), import("katex/dist/katex.min.css")]).then(
    ([module]) => (katexModule = module.default),
  );
  return katexPromise;
}

export function MathFormula({ source, raw, display }: { source: string; raw: string; display: boolean }) {
  const container = useRef<HTMLSpanElement>(null);
  const [katex, setKatex] = useState(() => katexModule);
  const [isInvalid, setIsInvalid] = useState(false);

  useEffect(() => {
    if (!katex) void loadKatex().then((module) => setKatex(() => module));
  }, [katex]);

  useEffect(() => {
    if (!katex || !container.current) return;
    try {
      // Without trust, KaTeX refuses commands with URLs or styles. It creates nodes, not HTML strings.
      katex.render(source, container.current, {
        displayMode: display,
        trust: false,
        maxSize: 20,
        maxExpand: 500,
        strict: false,
      });
      setIsInvalid(false);
    } catch {
      setIsInvalid(true);
    }
  }, [katex, source, display]);

  if (!katex || isInvalid) return <code className="math-source">{raw.trim()}</code>;
  return <span ref={container} className={display ? "math display" : "math"} />;
}
