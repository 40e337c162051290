// The frame around every page: sidebar, toast, and the keyboard shortcuts that work everywhere.

import { useEffect, useState, type MouseEvent, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import { navigate, paths, useRoute } from "../../lib/router";
import { useStore } from "../../lib/store";
import { isDrawerOpen } from "../../stores/drawer";
import { Toast } from "../ui/toast";
import { ShortcutsDialog } from "./shortcuts-dialog";
import { Sidebar } from "./sidebar";

export function AppShell({ children }: { children: ReactNode }) {
  const t = useTranslate();
  const isOpen = useStore(isDrawerOpen);
  const route = useRoute();
  const [showsShortcuts, setShowsShortcuts] = useState(false);

  useEffect(() => isDrawerOpen.set(false), [route]);
  useEffect(() => {
    const handleKeyDown = (event: KeyboardEvent): void => {
      const mod = event.ctrlKey || event.metaKey;
      const isTyping = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
      if (mod && event.key.toLowerCase() === "k") {
        event.preventDefault();
        isDrawerOpen.set(true);
        requestAnimationFrame(() => document.getElementById("conversation-search")?.focus());
      } else if (mod && event.shiftKey && event.key.toLowerCase() === "o") {
        event.preventDefault();
        navigate(paths.newConversation);
        requestAnimationFrame(() => document.getElementById("composer-input")?.focus());
      } else if ((mod && event.key === "/") || (event.key === "?" && !isTyping && !mod)) {
        event.preventDefault();
        setShowsShortcuts(true);
      } else if (event.key === "/" && !isTyping && !mod) {
        event.preventDefault();
        document.getElementById("composer-input")?.focus();
      } else if (event.key === "Escape") isDrawerOpen.set(false);
    };
    addEventListener("keydown", handleKeyDown);
    return () => removeEventListener("keydown", handleKeyDown);
  }, []);

  return (
    <div className="app-shell" data-drawer={isOpen || undefined}>
      <a className="skip-link" href="#main" onClick={skipToContent}>
        {t("skipToContent")}
      </a>
      <Sidebar onShowShortcuts={() => setShowsShortcuts(true)} />
      {isOpen && <div className="drawer-backdrop" onClick={() => isDrawerOpen.set(false)} />}
      <main id="main">{children}</main>
      <Toast />
      <ShortcutsDialog open={showsShortcuts} onOpenChange={setShowsShortcuts} />
    </div>
  );
}

/** Focus the message field or the page's title. A plain anchor would change the hash, and so the route. */
function skipToContent(event: MouseEvent): void {
  event.preventDefault();
  (document.getElementById("composer-input") ?? document.querySelector<HTMLElement>("main h1"))?.focus();
}
