// The list of conversations, grouped by age, with search matches highlighted.

import { useFormat } from "../../i18n/format";
import { useTranslate, type Translate } from "../../i18n/translate";
import type { ConversationSummary } from "../../lib/api-types";
import { paths } from "../../lib/router";
import { useStore } from "../../lib/store";
import { conversationList, loadMoreConversations } from "../../stores/conversation-list";
import { ownerOf, session } from "../../stores/session";
import { showError } from "../../stores/toast";
import { ConversationMenu } from "./conversation-menu";

const DAY_MS = 86_400_000;

export function ConversationList({ currentId }: { currentId: string | null }) {
  const t = useTranslate();
  const { items, hasMore, query, isLoaded } = useStore(conversationList);
  const owner = ownerOf(useStore(session).key);
  if (isLoaded && items.length === 0)
    return <p className="empty-state">{query ? t("noSearchResults") : t("noConversations", owner)}</p>;
  return (
    <div className="conversation-list">
      {groupByAge(items, t).map(([name, group]) => (
        <section key={name} aria-label={name}>
          <h2>{name}</h2>
          <ul>
            {group.map((item) => (
              <ListItem key={item.id} conversation={item} query={query} isCurrent={item.id === currentId} />
            ))}
          </ul>
        </section>
      ))}
      {hasMore && (
        <button type="button" className="subtle" onClick={() => void loadMoreConversations().catch(showError)}>
          {t("showMore")}
        </button>
      )}
    </div>
  );
}

interface ListItemProps {
  conversation: ConversationSummary;
  query: string;
  isCurrent: boolean;
}

function ListItem({ conversation, query, isCurrent }: ListItemProps) {
  const t = useTranslate();
  const format = useFormat();
  const { id, title, model, updated_at, found } = conversation;
  return (
    <li className={isCurrent ? "current" : undefined}>
      <a
        href={`#${paths.conversation(id)}`}
        aria-current={isCurrent ? "page" : undefined}
        title={`${title}\n${model} · ${format.dateTime(updated_at)}`}
      >
        <span className="title">
          <Highlighted text={title || t("newConversation")} query={query} />
        </span>
        {found && (
          <span className="snippet">
            <Highlighted text={found} query={query} />
          </span>
        )}
      </a>
      <ConversationMenu conversation={conversation} />
    </li>
  );
}

/** Text with the first match of the query marked. */
function Highlighted({ text, query }: { text: string; query: string }) {
  const wanted = query.trim().toLowerCase();
  const start = wanted ? text.toLowerCase().indexOf(wanted) : -1;
  if (start < 0) return text;
  const end = start + wanted.length;
  return (
    <>
      {text.slice(0, start)}
      <mark>{text.slice(start, end)}</mark>
      {text.slice(end)}
    </>
  );
}

function groupByAge(items: ConversationSummary[], t: Translate): [string, ConversationSummary[]][] {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const groups = new Map<string, ConversationSummary[]>();
  for (const item of items) {
    const age = midnight.getTime() - new Date(item.updated_at).getTime();
    const name = t(age <= 0 ? "today" : age <= DAY_MS ? "yesterday" : age <= 7 * DAY_MS ? "lastSevenDays" : "older");
    const group = groups.get(name);
    if (group) group.push(item);
    else groups.set(name, [item]);
  }
  return [...groups];
}
