// Title, description and action at the head of every page except the chat.

import { Menu as MenuIcon } from "lucide-react";
import { useEffect, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import { isDrawerOpen } from "../../stores/drawer";
import { IconButton } from "./icon-button";

interface Props {
  title: string;
  description?: ReactNode;
  action?: ReactNode;
  children: ReactNode;
}

export function PageLayout({ title, description, action, children }: Props) {
  const t = useTranslate();
  useEffect(() => {
    document.title = `${title} · Empu`;
  }, [title]);
  return (
    <div className="page">
      <IconButton
        className="mobile-only"
        label={t("menu")}
        icon={<MenuIcon />}
        onClick={() => isDrawerOpen.set(true)}
      />
      <header className="page-header">
        <div>
          <h1 tabIndex={-1}>{title}</h1>
          {description && <p>{description}</p>}
        </div>
        {action}
      </header>
      {children}
    </div>
  );
}
