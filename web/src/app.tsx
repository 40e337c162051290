// Who is it, where are they, and what is shown there.

import { useEffect, useState } from "react";
import { Shell } from "./components/shell";
import { SignIn } from "./components/sign-in";
import { call, ApiError, onSignedOut } from "./lib/api";
import { useWatched } from "./lib/external";
import { refresh } from "./lib/headings";
import { me, readMe } from "./lib/me";
import { usePlace } from "./lib/router";
import { useSay } from "./lib/say";
import { FeedbackPage } from "./pages/feedback";
import { ModelPage } from "./pages/model";
import { ModelsPage } from "./pages/models";
import { RunPage, RunsPage } from "./pages/runs";
import { TalkPage } from "./pages/talk";

type State = { is: "waiting" } | { is: "lost" } | { is: "out"; linkUsed: boolean } | { is: "in" };

export function App() {
  const say = useSay();
  const [state, setState] = useState<State>({ is: "waiting" });

  async function enter(linkUsed = false): Promise<void> {
    try {
      await readMe();
      setState({ is: "in" });
      await refresh();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) setState({ is: "out", linkUsed });
      else setState({ is: "lost" });
    }
  }

  useEffect(() => {
    void takeLink().then(enter);
    const pasted = (): void => {
      if (codeIn(location.hash)) void takeLink().then(enter);
    };
    addEventListener("hashchange", pasted);
    const out = onSignedOut(() => setState((now) => (now.is === "in" ? { is: "out", linkUsed: false } : now)));
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
    const { linkUsed } = state;
    return <SignIn key={String(linkUsed)} linkUsed={linkUsed} onIn={() => void enter()} />;
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

function codeIn(hash: string): string | undefined {
  return /^#code=([\w-]+)$/.exec(hash)?.[1];
}

let linkTried: Promise<boolean> | null = null;

/** Sign in with the code of a one-time link, and take it out of the address. Whether there was one that failed. */
function takeLink(): Promise<boolean> {
  const code = codeIn(location.hash);
  if (!code) return linkTried ?? Promise.resolve(false);
  history.replaceState(null, "", location.pathname);
  linkTried = call("POST", "/api/signin", { code }).then(
    () => false,
    () => true,
  );
  return linkTried;
}
