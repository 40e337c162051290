// The answer of a specialist for labels: the label, how sure it is, and what else it might be.

import { useNumbers, useSay } from "../lib/say";
import type { Facts } from "../lib/types";

const OTHERS = 3;

export function Labels({ answer, facts }: { answer: string; facts: Facts }) {
  const say = useSay();
  const numbers = useNumbers();
  const sure = facts.confidence ?? 0;
  const others = (facts.labels ?? []).filter((one) => one.label !== answer).slice(0, OTHERS);
  return (
    <div className="labels">
      <p className="label">
        <strong>{answer}</strong> {facts.out_of_scope !== true && <span>{say("sure", numbers.percent(sure))}</span>}
      </p>
      {facts.out_of_scope !== true && <Meter share={sure} best />}
      {others.length > 0 && (
        <ul aria-label={say("lessLikely")} title={say("eachByItself")}>
          {others.map((one) => (
            <li key={one.label}>
              <span className="row spread">
                <span>{one.label}</span> <span>{numbers.percent(Math.exp(one.logprob))}</span>
              </span>
              <Meter share={Math.exp(one.logprob)} />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function Meter({ share, best = false }: { share: number; best?: boolean }) {
  return (
    <svg className={best ? "meter best" : "meter"} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
      <rect className="whole" width="100" height="4" />
      <rect className="part" width={100 * share} height="4" />
    </svg>
  );
}
