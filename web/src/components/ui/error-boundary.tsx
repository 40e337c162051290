// What stands where a page would be that cannot be drawn: a sentence and a way on instead of nothing.

import { Component, type ReactNode } from "react";
import { useSay } from "../lib/say";

export class Boundary extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError(): { broken: boolean } {
    return { broken: true };
  }

  override render(): ReactNode {
    return this.state.broken ? <Broken /> : this.props.children;
  }
}

function Broken() {
  const say = useSay();
  return (
    <main className="alone">
      <p role="alert">{say("broken")}</p>
      <button type="button" onClick={() => location.reload()}>
        {say("again")}
      </button>
    </main>
  );
}
