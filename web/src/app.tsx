// The application: signs in, then shows the page of the current route.

import { useEffect, useState } from "react";
import { AppShell } from "./components/layout/app-shell";
import { SignIn } from "./components/sign-in";
import { useTranslate } from "./i18n/translate";
import { ApiError, onUnauthorized } from "./lib/api";
import { useRoute } from "./lib/router";
import { codeFromHash, redeemSignInLink } from "./lib/sign-in-link";
import { useStore } from "./lib/store";
import { ChatPage } from "./pages/chat";
import { FeedbackPage } from "./pages/feedback";
import { ModelPage } from "./pages/model";
import { ModelsPage } from "./pages/models";
import { RunPage } from "./pages/run";
import { RunsPage } from "./pages/runs";
import { refreshConversationList } from "./stores/conversation-list";
import { refreshSession, session } from "./stores/session";
import { showError } from "./stores/toast";

/** `attempt` counts failed sign-in links: each resets the sign-in form. */
type AuthState =
  | { status: "loading" }
  | { status: "unreachable" }
  | { status: "signed-out"; isLinkExpired: boolean; attempt: number }
  | { status: "signed-in" };

export function App() {
  const t = useTranslate();
  const [auth, setAuth] = useState<AuthState>({ status: "loading" });

  async function connect(isLinkExpired = false): Promise<void> {
    try {
      await refreshSession();
      setAuth({ status: "signed-in" });
      refreshConversationList().catch(showError);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401)
        setAuth((previous) => ({
          status: "signed-out",
          isLinkExpired,
          attempt: previous.status === "signed-out" ? previous.attempt + 1 : 0,
        }));
      else setAuth({ status: "unreachable" });
    }
  }

  useEffect(() => {
    void redeemSignInLink().then(connect);
    const handleHashChange = (): void => {
      if (codeFromHash(location.hash)) void redeemSignInLink().then(connect);
    };
    addEventListener("hashchange", handleHashChange);
    const unsubscribe = onUnauthorized(() =>
      setAuth((previous) =>
        previous.status === "signed-in" ? { status: "signed-out", isLinkExpired: false, attempt: 0 } : previous,
      ),
    );
    return () => {
      removeEventListener("hashchange", handleHashChange);
      unsubscribe();
    };
  }, []);
  useEffect(() => {
    if (auth.status !== "signed-in") return;
    const handleFocus = (): void => void refreshSession().catch(() => undefined);
    addEventListener("focus", handleFocus);
    return () => removeEventListener("focus", handleFocus);
  }, [auth.status]);

  switch (auth.status) {
    case "loading":
      return null;
    case "unreachable":
      return (
        <main className="centered-page">
          <p role="alert">{t("serverUnreachable")}</p>
          <button type="button" onClick={() => void connect()}>
            {t("retry")}
          </button>
        </main>
      );
    case "signed-out":
      return <SignIn key={auth.attempt} isLinkExpired={auth.isLinkExpired} onSignedIn={() => void connect()} />;
    case "signed-in":
      return (
        <AppShell>
          <CurrentPage />
        </AppShell>
      );
  }
}

function CurrentPage() {
  const route = useRoute();
  const { models } = useStore(session);
  switch (route.page) {
    case "chat":
      return <ChatPage id={route.id} requestedModel={route.model} models={models} />;
    case "models":
      return <ModelsPage />;
    case "model":
      return <ModelPage key={route.name} name={route.name} />;
    case "runs":
      return <RunsPage />;
    case "run":
      return <RunPage id={route.id} />;
    case "feedback":
      return <FeedbackPage />;
  }
}
