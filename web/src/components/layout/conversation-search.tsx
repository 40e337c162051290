// The search field above the list of conversations.

import { Search } from "lucide-react";
import { useDeferredValue, useEffect, useState } from "react";
import { useTranslate } from "../../i18n/translate";
import { conversationList, searchConversations } from "../../stores/conversation-list";
import { showError } from "../../stores/toast";

const DEBOUNCE_MS = 150;

export function ConversationSearch() {
  const t = useTranslate();
  const [query, setQuery] = useState("");
  const deferredQuery = useDeferredValue(query);
  useEffect(() => {
    const timer = setTimeout(() => {
      if (conversationList.get().query !== deferredQuery) void searchConversations(deferredQuery).catch(showError);
    }, DEBOUNCE_MS);
    return () => clearTimeout(timer);
  }, [deferredQuery]);
  return (
    <div className="search-field">
      <Search aria-hidden />
      <input
        id="conversation-search"
        type="search"
        value={query}
        placeholder={t("searchConversations")}
        aria-label={t("searchConversations")}
        onChange={(event) => setQuery(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") setQuery("");
        }}
      />
    </div>
  );
}
