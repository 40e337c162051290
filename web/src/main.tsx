import { CSPProvider } from "@base-ui/react/csp-provider";
import { Tooltip } from "@base-ui/react/tooltip";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { ErrorBoundary } from "./components/ui/error-boundary";
import { applyPreferences } from "./stores/preferences";
import "./styles/theme.css";
import "./styles/base.css";
import "./styles/forms.css";
import "./styles/overlays.css";
import "./styles/layout.css";
import "./styles/sidebar.css";
import "./styles/page.css";
import "./styles/model.css";
import "./styles/feedback.css";
import "./styles/chat.css";
import "./styles/messages.css";
import "./styles/composer.css";
import "./styles/markdown.css";
import "./styles/code.css";

applyPreferences();
const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <CSPProvider disableStyleElements>
        <Tooltip.Provider delay={500}>
          <ErrorBoundary>
            <App />
          </ErrorBoundary>
        </Tooltip.Provider>
      </CSPProvider>
    </StrictMode>,
  );
