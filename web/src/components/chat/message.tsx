// One message of a conversation: a question or an answer.

import { Answer } from "./answer";
import type { MessageProps } from "./message-props";
import { Question } from "./question";

export function MessageView(props: MessageProps) {
  return props.message.role === "user" ? <Question {...props} /> : <Answer {...props} />;
}
