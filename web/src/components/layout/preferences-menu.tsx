// Language, light and dark, the keys, everything out, everything gone, and the way out.

import { Menu } from "@base-ui/react/menu";
import { Check, Download, Keyboard, LogOut, Settings2, Trash2 } from "lucide-react";
import { useState, type ReactNode } from "react";
import { call } from "../lib/api";
import { forgetDrafts } from "../lib/drafts";
import { useWatched } from "../lib/external";
import { me, ownerOf } from "../lib/me";
import { failed } from "../lib/notice";
import { language, theme, type Language, type Theme } from "../lib/prefs";
import { go, paths } from "../lib/router";
import { useSay } from "../lib/say";
import { removeAll } from "../lib/talk";
import { Confirm } from "./dialogs";

const LANGUAGES: [Language, string][] = [
  ["en", "English"],
  ["id", "Bahasa Indonesia"],
];
const THEMES: Theme[] = ["system", "light", "dark"];

export function PreferencesMenu({ onShortcuts }: { onShortcuts: () => void }) {
  const say = useSay();
  const chosenLanguage = useWatched(language);
  const chosenTheme = useWatched(theme);
  const who = ownerOf(useWatched(me).key);
  const [asks, setAsks] = useState(false);
  return (
    <>
      <Menu.Root modal={false}>
        <Menu.Trigger className="place">
          <Settings2 aria-hidden /> {say("preferences")}
        </Menu.Trigger>
        <Menu.Portal>
          <Menu.Positioner side="top" align="start" sideOffset={6}>
            <Menu.Popup className="menu">
              <Menu.RadioGroup value={chosenLanguage} onValueChange={(value: Language) => language.set(value)}>
                <Menu.GroupLabel className="group">{say("language")}</Menu.GroupLabel>
                {LANGUAGES.map(([value, name]) => (
                  <Choice key={value} value={value}>
                    <span lang={value}>{name}</span>
                  </Choice>
                ))}
              </Menu.RadioGroup>
              <Menu.RadioGroup value={chosenTheme} onValueChange={(value: Theme) => theme.set(value)}>
                <Menu.GroupLabel className="group">{say("theme")}</Menu.GroupLabel>
                {THEMES.map((value) => (
                  <Choice key={value} value={value}>
                    {say(value)}
                  </Choice>
                ))}
              </Menu.RadioGroup>
              <Menu.Separator className="line" />
              <Menu.Item className="item" onClick={onShortcuts}>
                <Keyboard aria-hidden /> {say("shortcuts")}
              </Menu.Item>
              <Menu.LinkItem closeOnClick className="item" href="/api/export" download>
                <Download aria-hidden /> {say("exportAll")}
              </Menu.LinkItem>
              <Menu.Item className="item danger" onClick={() => setAsks(true)}>
                <Trash2 aria-hidden /> {say("deleteAll")}
              </Menu.Item>
              <Menu.Separator className="line" />
              <p className="group">{say("signedInAs", who)}</p>
              <Menu.Item className="item" onClick={() => void call("POST", "/api/signout").then(gone, failed)}>
                <LogOut aria-hidden /> {say("signout")}
              </Menu.Item>
            </Menu.Popup>
          </Menu.Positioner>
        </Menu.Portal>
      </Menu.Root>
      <Confirm
        open={asks}
        onClose={() => setAsks(false)}
        title={say("deleteAllAsk")}
        said={say("deleteAllSaid")}
        onYes={async () => {
          await removeAll();
          go(paths.fresh, true);
        }}
      />
    </>
  );
}

function gone(): void {
  forgetDrafts();
  location.reload();
}

function Choice({ value, children }: { value: string; children: ReactNode }) {
  return (
    <Menu.RadioItem className="item" value={value} closeOnClick>
      <span className="tick">
        <Menu.RadioItemIndicator>
          <Check aria-hidden />
        </Menu.RadioItemIndicator>
      </span>
      {children}
    </Menu.RadioItem>
  );
}
