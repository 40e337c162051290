// The preferences menu: language, theme, shortcuts, export, deleting everything, signing out.

import { Menu } from "@base-ui/react/menu";
import { Check, Download, Keyboard, LogOut, Settings2, Trash2 } from "lucide-react";
import { useState, type ReactNode } from "react";
import { useTranslate } from "../../i18n/translate";
import { request } from "../../lib/api";
import { navigate, paths } from "../../lib/router";
import { useStore } from "../../lib/store";
import { deleteAllConversations } from "../../stores/conversations";
import { clearDrafts } from "../../stores/drafts";
import { language, theme, type Language, type Theme } from "../../stores/preferences";
import { ownerOf, session } from "../../stores/session";
import { showError } from "../../stores/toast";
import { ConfirmDialog } from "../ui/confirm-dialog";

const LANGUAGES: [Language, string][] = [
  ["en", "English"],
  ["id", "Bahasa Indonesia"],
];
const THEMES: Theme[] = ["system", "light", "dark"];

export function PreferencesMenu({ onShowShortcuts }: { onShowShortcuts: () => void }) {
  const t = useTranslate();
  const currentLanguage = useStore(language);
  const currentTheme = useStore(theme);
  const owner = ownerOf(useStore(session).key);
  const [isDeleting, setIsDeleting] = useState(false);
  return (
    <>
      <Menu.Root modal={false}>
        <Menu.Trigger className="nav-link">
          <Settings2 aria-hidden /> {t("preferences")}
        </Menu.Trigger>
        <Menu.Portal>
          <Menu.Positioner side="top" align="start" sideOffset={6}>
            <Menu.Popup className="menu">
              <Menu.RadioGroup value={currentLanguage} onValueChange={(value: Language) => language.set(value)}>
                <Menu.GroupLabel className="menu-label">{t("language")}</Menu.GroupLabel>
                {LANGUAGES.map(([value, name]) => (
                  <RadioItem key={value} value={value}>
                    <span lang={value}>{name}</span>
                  </RadioItem>
                ))}
              </Menu.RadioGroup>
              <Menu.RadioGroup value={currentTheme} onValueChange={(value: Theme) => theme.set(value)}>
                <Menu.GroupLabel className="menu-label">{t("theme")}</Menu.GroupLabel>
                {THEMES.map((value) => (
                  <RadioItem key={value} value={value}>
                    {t(value)}
                  </RadioItem>
                ))}
              </Menu.RadioGroup>
              <Menu.Separator className="menu-separator" />
              <Menu.Item className="menu-item" onClick={onShowShortcuts}>
                <Keyboard aria-hidden /> {t("shortcuts")}
              </Menu.Item>
              <Menu.LinkItem closeOnClick className="menu-item" href="/api/export" download>
                <Download aria-hidden /> {t("exportAll")}
              </Menu.LinkItem>
              <Menu.Item className="menu-item danger" onClick={() => setIsDeleting(true)}>
                <Trash2 aria-hidden /> {t("deleteAll")}
              </Menu.Item>
              <Menu.Separator className="menu-separator" />
              <p className="menu-label">{t("signedInAs", owner)}</p>
              <Menu.Item className="menu-item" onClick={signOut}>
                <LogOut aria-hidden /> {t("signOut")}
              </Menu.Item>
            </Menu.Popup>
          </Menu.Positioner>
        </Menu.Portal>
      </Menu.Root>
      <ConfirmDialog
        open={isDeleting}
        onClose={() => setIsDeleting(false)}
        title={t("deleteAllTitle")}
        description={t("deleteAllHelp")}
        onConfirm={async () => {
          await deleteAllConversations();
          navigate(paths.newConversation, true);
        }}
      />
    </>
  );
}

function signOut(): void {
  const reload = (): void => {
    clearDrafts();
    location.reload();
  };
  void request("POST", "/api/signout").then(reload, showError);
}

function RadioItem({ value, children }: { value: string; children: ReactNode }) {
  return (
    <Menu.RadioItem className="menu-item" value={value} closeOnClick>
      <span className="menu-check">
        <Menu.RadioItemIndicator>
          <Check aria-hidden />
        </Menu.RadioItemIndicator>
      </span>
      {children}
    </Menu.RadioItem>
  );
}
