// Who is it, where are they, and what is shown there.

import { useEffect, useState } from "react";
import { Shell } from "./components/shell";
import { SignIn } from "./components/sign-in";
import { ApiError, onSignedOut } from "./lib/api";
import { useWatched } from "./lib/external";
import { refresh } from "./lib/headings";
import { codeIn, takeLink } from "./lib/link";
import { me, readMe } from "./lib/me";
import { failed } from "./lib/notice";
import { usePlace } from "./lib/router";
import { useSay } from "./lib/say";
import { FeedbackPage } from "./pages/feedback";
import { ModelPage } from "./pages/model";
import { ModelsPage } from "./pages/models";
import { RunPage, RunsPage } from "./pages/runs";
import { TalkPage } from "./pages/talk";

/** `round` counts links that failed, so that each begins the sign-in card anew. */
type State = { is: "waiting" } | { is: "lost" } | { is: "out"; linkUsed: boolean; round: number } | { is: "in" };

export function App() {
  const say = useSay();
  const [state, setState] = useState<State>({ is: "waiting" });

  async function enter(linkUsed = false): Promise<void> {
    try {
      await readMe();
      setState({ is: "in" });
      refresh().catch(failed);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401)
        setState((now) => ({ is: "out", linkUsed, round: now.is === "out" ? now.round + 1 : 0 }));
      else setState({ is: "lost" });
    }
  }

  useEffect(() => {
    void takeLink().then(enter);
    const pasted = (): void => {
      if (codeIn(location.hash)) void takeLink().then(enter);
    };
    addEventListener("hashchange", pasted);
    const out = onSignedOut(() =>
      setState((now) => (now.is === "in" ? { is: "out", linkUsed: false, round: 0 } : now)),
    );
    return () => {
      removeEventListener("hashchange", pasted);
      out();
    };
  }, []);
  useEffect(() => {
    if (state.is !== "in") return;
    const back = (): void => void readMe().catch(() => undefined);
    addEventListener("focus", back);
    return () => removeEventListener("focus", back);
  }, [state.is]);

  if (state.is === "waiting") return null;
  if (state.is === "lost")
    return (
      <main className="alone">
        <p role="alert">{say("lost")}</p>
        <button type="button" onClick={() => void enter()}>
          {say("again")}
        </button>
      </main>
    );
  if (state.is === "out") {
    const { linkUsed, round } = state;
    return <SignIn key={round} linkUsed={linkUsed} onIn={() => void enter()} />;
  }
  return (
    <Shell>
      <Page />
    </Shell>
  );
}

function Page() {
  const place = usePlace();
  const { models } = useWatched(me);
  switch (place.at) {
    case "talk":
      return <TalkPage id={place.id} asked={place.model} models={models} />;
    case "models":
      return <ModelsPage />;
    case "model":
      return <ModelPage key={place.name} name={place.name} />;
    case "runs":
      return <RunsPage />;
    case "run":
      return <RunPage id={place.id} />;
    case "feedback":
      return <FeedbackPage />;
  }
}
