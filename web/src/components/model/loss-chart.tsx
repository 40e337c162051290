// Losses over steps. The pointer, or the arrow keys, read a point.

import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { useNumbers, useSay } from "../lib/say";
import type { Curve } from "../lib/types";

const LEFT = 44;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 34;

/** The two losses are different sums: training adds what is smoothed and the reading of questions, so each has its scale. */
export function LossChart({ curve, steps }: { curve: Curve; steps?: number }) {
  const say = useSay();
  const most = Math.max(steps ?? 0, curve.steps.at(-1) ?? 0, 1);
  if (curve.steps.length === 0) return <p className="small">{say("noSteps")}</p>;
  return (
    <>
      <Plot kind="train" name={say("trainLoss")} steps={curve.steps} losses={curve.losses} most={most} height={220} />
      {curve.dev_losses.length > 0 && (
        <>
          <Plot
            kind="dev"
            name={say("devLoss")}
            steps={curve.dev_steps}
            losses={curve.dev_losses}
            most={most}
            height={140}
            best={curve.best_epoch}
          />
          <p className="small">{say("twoLosses")}</p>
        </>
      )}
    </>
  );
}

interface PlotProps {
  kind: "train" | "dev";
  name: string;
  steps: number[];
  losses: number[];
  /** Steps of the whole run. */
  most: number;
  height: number;
  /** The point whose weights were kept. */
  best?: number | null;
}

function Plot({ kind, name, steps, losses, most, height, best = null }: PlotProps) {
  const say = useSay();
  const numbers = useNumbers();
  const [width, place] = useWidth();
  const [at, setAt] = useState<number | null>(null);
  const ticks = niceTicks(Math.max(...losses, 0.04), height < 200 ? 2 : 4);
  const top = ticks.at(-1) ?? 1;
  const digits = top >= 4 ? 0 : top >= 0.4 ? 1 : 2;
  const x = (step: number): number => LEFT + ((width - LEFT - RIGHT) * step) / most;
  const y = (loss: number): number => TOP + (height - TOP - BOTTOM) * (1 - loss / top);
  const line = steps.map((step, i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(losses[i] ?? 0).toFixed(1)}`).join("");

  const point = (event: PointerEvent<SVGSVGElement>): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const step = ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * most;
    setAt(nearest(steps, step));
  };
  const press = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    setAt((now) => Math.min(steps.length - 1, Math.max(0, (now ?? (by > 0 ? -1 : steps.length)) + by)));
  };
  const reading = at ?? best ?? steps.length - 1;
  const readStep = steps[reading];
  const readLoss = losses[reading];
  const described =
    readStep === undefined || readLoss === undefined
      ? say("noSteps")
      : say("lossAt", numbers.fixed(readLoss, 3), numbers.count(readStep));
  return (
    <figure className="chart" ref={place}>
      <figcaption className="legend">
        <span className={`key ${kind}`}>{name}</span>
        <output>{described}</output>
      </figcaption>
      <svg
        width={width}
        height={height}
        role="img"
        aria-label={`${name}: ${described}`}
        tabIndex={0}
        onPointerMove={point}
        onPointerLeave={() => setAt(null)}
        onKeyDown={press}
        onBlur={() => setAt(null)}
      >
        {ticks.map((tick) => (
          <g key={tick}>
            <line className="grid" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 8} y={y(tick) + 4} textAnchor="end">
              {numbers.fixed(tick, digits)}
            </text>
          </g>
        ))}
        {[0, 0.5, 1].map((share) => (
          <text
            key={share}
            x={x(most * share)}
            y={height - 12}
            textAnchor={share === 0 ? "start" : share === 1 ? "end" : "middle"}
          >
            {numbers.count(most * share)}
            {share === 1 ? ` ${say("steps")}` : ""}
          </text>
        ))}
        <path className={kind} d={line} />
        {(kind === "dev" || steps.length === 1) &&
          steps.map((step, i) => (
            <circle
              key={step}
              className={i === best ? `${kind} best` : kind}
              cx={x(step)}
              cy={y(losses[i] ?? 0)}
              r={i === best ? 5 : 3.5}
            />
          ))}
        {at !== null && readStep !== undefined && readLoss !== undefined && (
          <>
            <line className="cross" x1={x(readStep)} x2={x(readStep)} y1={TOP} y2={height - BOTTOM} />
            <circle className={kind} cx={x(readStep)} cy={y(readLoss)} r={4} />
          </>
        )}
      </svg>
    </figure>
  );
}

function useWidth(): [number, (element: HTMLElement | null) => void] {
  const [width, setWidth] = useState(640);
  const [element, setElement] = useState<HTMLElement | null>(null);
  const observer = useRef<ResizeObserver | null>(null);
  useEffect(() => {
    if (!element) return;
    observer.current = new ResizeObserver(
      ([entry]) => entry && setWidth(Math.max(200, Math.floor(entry.contentRect.width))),
    );
    observer.current.observe(element);
    return () => observer.current?.disconnect();
  }, [element]);
  return [width, setElement];
}

function nearest(steps: number[], target: number): number | null {
  let best: number | null = null;
  for (const [i, step] of steps.entries()) {
    if (best === null || Math.abs(step - target) < Math.abs((steps[best] ?? 0) - target)) best = i;
  }
  return best;
}

/** About `count` round numbers above 0, the last at least `most`. */
export function niceTicks(most: number, count = 4): number[] {
  const raw = most / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * size >= raw) ?? 10) * size;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}
