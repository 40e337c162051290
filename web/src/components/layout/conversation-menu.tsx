// The menu of one conversation: rename, export, delete.

import { Menu } from "@base-ui/react/menu";
import { Download, Ellipsis, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { useTranslate } from "../../i18n/translate";
import type { ConversationSummary } from "../../lib/api-types";
import { navigate, paths, useRoute } from "../../lib/router";
import { deleteConversation, updateConversation } from "../../stores/conversations";
import { ConfirmDialog } from "../ui/confirm-dialog";
import { PromptDialog } from "../ui/prompt-dialog";

const MAX_TITLE_LENGTH = 200;

export function ConversationMenu({ conversation }: { conversation: ConversationSummary }) {
  const t = useTranslate();
  const route = useRoute();
  const [dialog, setDialog] = useState<"rename" | "delete" | null>(null);
  const title = conversation.title || t("newConversation");
  return (
    <>
      <Menu.Root modal={false}>
        <Menu.Trigger className="icon-button more-button" aria-label={`${t("more")}: ${title}`}>
          <Ellipsis />
        </Menu.Trigger>
        <Menu.Portal>
          <Menu.Positioner sideOffset={4} align="start">
            <Menu.Popup className="menu">
              <Menu.Item className="menu-item" onClick={() => setDialog("rename")}>
                <Pencil aria-hidden /> {t("rename")}
              </Menu.Item>
              <Menu.LinkItem
                closeOnClick
                className="menu-item"
                href={`/api/conversations/${conversation.id}/export`}
                download
              >
                <Download aria-hidden /> {t("exportJson")}
              </Menu.LinkItem>
              <Menu.Item className="menu-item danger" onClick={() => setDialog("delete")}>
                <Trash2 aria-hidden /> {t("delete")}
              </Menu.Item>
            </Menu.Popup>
          </Menu.Positioner>
        </Menu.Portal>
      </Menu.Root>
      <PromptDialog
        open={dialog === "rename"}
        onClose={() => setDialog(null)}
        title={t("renameConversation")}
        label={t("title")}
        defaultValue={title}
        maxLength={MAX_TITLE_LENGTH}
        onSave={(text) => updateConversation(conversation.id, { title: text.trim() })}
      />
      <ConfirmDialog
        open={dialog === "delete"}
        onClose={() => setDialog(null)}
        title={t("deleteConversation")}
        description={t("deleteConversationHelp", title)}
        onConfirm={async () => {
          await deleteConversation(conversation.id);
          if (route.page === "chat" && route.id === conversation.id) navigate(paths.newConversation, true);
        }}
      />
    </>
  );
}
