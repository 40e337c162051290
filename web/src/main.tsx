import { CSPProvider } from "@base-ui/react/csp-provider";
import { Tooltip } from "@base-ui/react/tooltip";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { Boundary } from "./components/boundary";
import { begin } from "./lib/prefs";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/layout.css";
import "./styles/pages.css";
import "./styles/talk.css";
import "./styles/words.css";

begin();
const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <CSPProvider disableStyleElements>
        <Tooltip.Provider delay={500}>
          <Boundary>
            <App />
          </Boundary>
        </Tooltip.Provider>
      </CSPProvider>
    </StrictMode>,
  );
