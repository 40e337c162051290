// The sidebar: conversations with their search, and links to the other pages.

import { Activity, Boxes, MessageSquarePlus, ThumbsUp, X } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import { navigate, paths, useRoute } from "../../lib/router";
import { isDrawerOpen } from "../../stores/drawer";
import { IconButton } from "../ui/icon-button";
import { Logo } from "../ui/logo";
import { ConversationList } from "./conversation-list";
import { ConversationSearch } from "./conversation-search";
import { PreferencesMenu } from "./preferences-menu";

export function Sidebar({ onShowShortcuts }: { onShowShortcuts: () => void }) {
  const t = useTranslate();
  const route = useRoute();
  return (
    <nav className="sidebar" aria-label={t("conversations")}>
      <div className="row space-between">
        <a className="brand" href={`#${paths.newConversation}`}>
          <Logo /> Empu
        </a>
        <IconButton className="mobile-only" label={t("close")} icon={<X />} onClick={() => isDrawerOpen.set(false)} />
      </div>
      <button type="button" className="new-conversation" onClick={() => navigate(paths.newConversation)}>
        <MessageSquarePlus aria-hidden /> {t("newConversation")}
      </button>
      <ConversationSearch />
      <ConversationList currentId={route.page === "chat" ? route.id : null} />
      <div className="sidebar-footer">
        <NavLink
          to={paths.models}
          isCurrent={route.page === "models" || route.page === "model"}
          icon={<Boxes aria-hidden />}
        >
          {t("models")}
        </NavLink>
        <NavLink
          to={paths.runs}
          isCurrent={route.page === "runs" || route.page === "run"}
          icon={<Activity aria-hidden />}
        >
          {t("runs")}
        </NavLink>
        <NavLink to={paths.feedback} isCurrent={route.page === "feedback"} icon={<ThumbsUp aria-hidden />}>
          {t("feedback")}
        </NavLink>
        <PreferencesMenu onShowShortcuts={onShowShortcuts} />
      </div>
    </nav>
  );
}

interface NavLinkProps {
  to: string;
  isCurrent: boolean;
  icon: ReactNode;
  children: string;
}

function NavLink({ to, isCurrent, icon, children }: NavLinkProps) {
  return (
    <a className="nav-link" href={`#${to}`} aria-current={isCurrent ? "page" : undefined}>
      {icon} {children}
    </a>
  );
}
