// Rename, export, delete: for one conversation.

import { Menu } from "@base-ui/react/menu";
import { Download, Ellipsis, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { go, paths, usePlace } from "../lib/router";
import { useSay } from "../lib/say";
import { change, remove } from "../lib/talk";
import type { Heading } from "../lib/types";
import { Confirm, Prompt } from "./dialogs";

export function ConversationMenu({ heading }: { heading: Heading }) {
  const say = useSay();
  const place = usePlace();
  const [asks, setAsks] = useState<"rename" | "delete" | null>(null);
  const title = heading.title || say("fresh");
  return (
    <>
      <Menu.Root modal={false}>
        <Menu.Trigger className="icon more" aria-label={`${say("more")}: ${title}`}>
          <Ellipsis />
        </Menu.Trigger>
        <Menu.Portal>
          <Menu.Positioner sideOffset={4} align="start">
            <Menu.Popup className="menu">
              <Menu.Item className="item" onClick={() => setAsks("rename")}>
                <Pencil aria-hidden /> {say("rename")}
              </Menu.Item>
              <Menu.LinkItem closeOnClick className="item" href={`/api/conversations/${heading.id}/export`} download>
                <Download aria-hidden /> {say("exportOne")}
              </Menu.LinkItem>
              <Menu.Item className="item danger" onClick={() => setAsks("delete")}>
                <Trash2 aria-hidden /> {say("remove")}
              </Menu.Item>
            </Menu.Popup>
          </Menu.Positioner>
        </Menu.Portal>
      </Menu.Root>
      <Prompt
        open={asks === "rename"}
        onClose={() => setAsks(null)}
        title={say("renameAsk")}
        label={say("title")}
        value={title}
        maxLength={200}
        onSave={(text) => change(heading.id, { title: text.trim() })}
      />
      <Confirm
        open={asks === "delete"}
        onClose={() => setAsks(null)}
        title={say("deleteAsk")}
        said={say("deleteSaid", title)}
        onYes={async () => {
          await remove(heading.id);
          if (place.at === "talk" && place.id === heading.id) go(paths.fresh, true);
        }}
      />
    </>
  );
}
