// Terms with their values, one pair a line.

import type { ReactNode } from "react";

export type DescriptionItem = [term: string, value: ReactNode];

export function DescriptionList({ items }: { items: DescriptionItem[] }) {
  return (
    <dl className="description-list">
      {items.map(([term, value]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
