// Who is it, where are they, and what is shown there.

import { useEffect, useState } from "react";
import { Shell } from "./components/shell";
import { SignIn } from "./components/sign-in";
import { call, ApiError, onSignedOut } from "./lib/api";
import { readBriefs } from "./lib/briefs";
import { refresh } from "./lib/headings";
import { usePlace } from "./lib/router";
import { useSay } from "./lib/say";
import type { Me } from "./lib/types";
import { FeedbackPage } from "./pages/feedback";
import { ModelPage } from "./pages/model";
import { ModelsPage } from "./pages/models";
import { RunPage, RunsPage } from "./pages/runs";
import { TalkPage } from "./pages/talk";

type State = { is: "waiting" } | { is: "lost" } | { is: "out"; linkUsed: boolean } | { is: "in"; me: Me };

export function App() {
  const say = useSay();
  const [state, setState] = useState<State>({ is: "waiting" });

  async function enter(linkUsed = false): Promise<void> {
    try {
      const me = await call<Me>("GET", "/api/me");
      setState({ is: "in", me });
      await Promise.all([refresh(), readBriefs()]);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) setState({ is: "out", linkUsed });
      else setState({ is: "lost" });
    }
  }

  useEffect(() => {
    void takeLink().then(enter);
    return onSignedOut(() => setState((now) => (now.is === "in" ? { is: "out", linkUsed: false } : now)));
  }, []);

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
  if (state.is === "out") return <SignIn linkUsed={state.linkUsed} onIn={() => void enter()} />;
  return (
    <Shell>
      <Page me={state.me} />
    </Shell>
  );
}

function Page({ me }: { me: Me }) {
  const place = usePlace();
  switch (place.at) {
    case "talk":
      return <TalkPage id={place.id} asked={place.model} models={me.models} />;
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

let linkTried: Promise<boolean> | null = null;

/** Sign in with the code of a one-time link, and take it out of the address. Whether there was one that failed. */
function takeLink(): Promise<boolean> {
  const code = /^#code=([\w-]+)$/.exec(location.hash)?.[1];
  if (!code) return linkTried ?? Promise.resolve(false);
  history.replaceState(null, "", location.pathname);
  linkTried = call("POST", "/api/signin", { code }).then(
    () => false,
    () => true,
  );
  return linkTried;
}
