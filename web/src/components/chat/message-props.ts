// What every part of a message is given.

import type { Message } from "../../lib/api-types";
import type { ConversationState } from "../../stores/conversations";

export interface MessageProps {
  conversationId: string;
  conversation: ConversationState;
  message: Message;
}
