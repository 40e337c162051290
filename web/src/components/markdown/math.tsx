// A formula. KaTeX is loaded when the first one is shown; what it cannot read stays as it was written.

import { useEffect, useRef, useState } from "react";

type Katex = typeof import("katex").default;

let loaded: Katex | null = null;
let loading: Promise<Katex> | null = null;

function load(): Promise<Katex> {
  loading ??= Promise.all([import("katex"), import("katex/dist/katex.min.css")]).then(
    ([module]) => (loaded = module.default),
  );
  return loading;
}

export function MathText({ source, raw, display }: { source: string; raw: string; display: boolean }) {
  const place = useRef<HTMLSpanElement>(null);
  const [katex, setKatex] = useState(() => loaded);
  const [failed, setFailed] = useState(false);

  useEffect(() => {
    if (!katex) void load().then((found) => setKatex(() => found));
  }, [katex]);

  useEffect(() => {
    if (!katex || !place.current) return;
    try {
      // Without trust, commands that name addresses or styles are refused. Nodes are made, not HTML.
      katex.render(source, place.current, {
        displayMode: display,
        trust: false,
        maxSize: 20,
        maxExpand: 500,
        strict: false,
      });
      setFailed(false);
    } catch {
      setFailed(true);
    }
  }, [katex, source, display]);

  if (!katex || failed) return <code className="formula">{raw.trim()}</code>;
  return <span ref={place} className={display ? "math display" : "math"} />;
}
