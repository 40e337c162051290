// The hyperparameters of a tuning run, without those that are null.

export function Hyperparameters({ values }: { values: Record<string, unknown> }) {
  const parts = Object.entries(values)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join("+") : String(value)}`);
  return <code>{parts.join(", ")}</code>;
}
