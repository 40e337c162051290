// One loss curve. The pointer or the arrow keys select a point, whose value is shown above.

import { useEffect, useState, type KeyboardEvent, type PointerEvent } from "react";
import { useFormat } from "../../i18n/format";
import { useTranslate } from "../../i18n/translate";

const MARGIN = { left: 44, right: 12, top: 12, bottom: 34 };
const MIN_WIDTH = 200;

interface Props {
  series: "train" | "dev";
  name: string;
  steps: number[];
  losses: number[];
  /** Right end of the x axis. */
  maxStep: number;
  height: number;
  /** Index of the point whose weights were saved. */
  bestIndex?: number | null;
}

export function LinePlot({ series, name, steps, losses, maxStep, height, bestIndex = null }: Props) {
  const t = useTranslate();
  const format = useFormat();
  const [width, containerRef] = useElementWidth();
  const [selected, setSelected] = useState<number | null>(null);
  const ticks = niceTicks(Math.max(...losses, 0.04), height < 200 ? 2 : 4);
  const maxLoss = ticks.at(-1) ?? 1;
  const tickDigits = maxLoss >= 4 ? 0 : maxLoss >= 0.4 ? 1 : 2;
  const plotWidth = width - MARGIN.left - MARGIN.right;
  const plotHeight = height - MARGIN.top - MARGIN.bottom;
  const x = (step: number): number => MARGIN.left + (plotWidth * step) / maxStep;
  const y = (loss: number): number => MARGIN.top + plotHeight * (1 - loss / maxLoss);
  const path = steps.map((step, i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(losses[i] ?? 0).toFixed(1)}`).join("");

  const handlePointerMove = (event: PointerEvent<SVGSVGElement>): void => {
    const { left } = event.currentTarget.getBoundingClientRect();
    setSelected(nearestIndex(steps, ((event.clientX - left - MARGIN.left) / plotWidth) * maxStep));
  };
  const handleKeyDown = (event: KeyboardEvent): void => {
    const offset = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!offset) return;
    event.preventDefault();
    const start = offset > 0 ? -1 : steps.length;
    setSelected((index) => Math.min(steps.length - 1, Math.max(0, (index ?? start) + offset)));
  };
  const shown = selected ?? bestIndex ?? steps.length - 1;
  const step = steps[shown];
  const loss = losses[shown];
  const reading =
    step === undefined || loss === undefined
      ? t("noSteps")
      : t("lossAtStep", format.decimal(loss, 3), format.integer(step));
  return (
    <figure className="chart" ref={containerRef}>
      <figcaption className="legend">
        <span className={`legend-key ${series}`}>{name}</span>
        <output>{reading}</output>
      </figcaption>
      <svg
        width={width}
        height={height}
        role="img"
        aria-label={`${name}: ${reading}`}
        tabIndex={0}
        onPointerMove={handlePointerMove}
        onPointerLeave={() => setSelected(null)}
        onKeyDown={handleKeyDown}
        onBlur={() => setSelected(null)}
      >
        {ticks.map((tick) => (
          <g key={tick}>
            <line className="grid-line" x1={MARGIN.left} x2={width - MARGIN.right} y1={y(tick)} y2={y(tick)} />
            <text x={MARGIN.left - 8} y={y(tick) + 4} textAnchor="end">
              {format.decimal(tick, tickDigits)}
            </text>
          </g>
        ))}
        {[0, 0.5, 1].map((fraction) => (
          <text
            key={fraction}
            x={x(maxStep * fraction)}
            y={height - 12}
            textAnchor={fraction === 0 ? "start" : fraction === 1 ? "end" : "middle"}
          >
            {format.integer(maxStep * fraction)}
            {fraction === 1 ? ` ${t("steps")}` : ""}
          </text>
        ))}
        <path className={series} d={path} />
        {(series === "dev" || steps.length === 1) &&
          steps.map((pointStep, i) => (
            <circle
              key={pointStep}
              className={i === bestIndex ? `${series} best` : series}
              cx={x(pointStep)}
              cy={y(losses[i] ?? 0)}
              r={i === bestIndex ? 5 : 3.5}
            />
          ))}
        {selected !== null && step !== undefined && loss !== undefined && (
          <>
            <line className="cursor-line" x1={x(step)} x2={x(step)} y1={MARGIN.top} y2={height - MARGIN.bottom} />
            <circle className={series} cx={x(step)} cy={y(loss)} r={4} />
          </>
        )}
      </svg>
    </figure>
  );
}

function useElementWidth(): [width: number, ref: (element: HTMLElement | null) => void] {
  const [width, setWidth] = useState(640);
  const [element, setElement] = useState<HTMLElement | null>(null);
  useEffect(() => {
    if (!element) return;
    const observer = new ResizeObserver(
      ([entry]) => entry && setWidth(Math.max(MIN_WIDTH, Math.floor(entry.contentRect.width))),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [width, setElement];
}

function nearestIndex(steps: number[], target: number): number | null {
  let nearest: number | null = null;
  for (const [i, step] of steps.entries()) {
    if (nearest === null || Math.abs(step - target) < Math.abs((steps[nearest] ?? 0) - target)) nearest = i;
  }
  return nearest;
}

/** About `count` round numbers from 0, the last one at least `max`. */
function niceTicks(max: number, count: number): number[] {
  const rawStep = max / count;
  const magnitude = 10 ** Math.floor(Math.log10(rawStep));
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * magnitude >= rawStep) ?? 10) * magnitude;
  return Array.from({ length: Math.ceil(max / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}
