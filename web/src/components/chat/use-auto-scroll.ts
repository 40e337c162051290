// Hook that keeps the end of a conversation in view while an answer grows, until the user scrolls up.

import { useCallback, useEffect, useRef, useState, type RefObject } from "react";
import type { ConversationState } from "../../stores/conversations";

/** Closer to the end than this, the view follows it. */
const FOLLOW_DISTANCE_PX = 60;
/** Further from the end than this, a button leads back to it. */
const AWAY_DISTANCE_PX = 240;

interface AutoScroll {
  scrollRef: (element: HTMLDivElement | null) => (() => void) | undefined;
  endRef: RefObject<HTMLDivElement | null>;
  /** Null while the end is in view. */
  scrollToEnd: (() => void) | null;
}

export function useAutoScroll({ summary, messages, streaming }: ConversationState): AutoScroll {
  const endRef = useRef<HTMLDivElement>(null);
  const isFollowing = useRef(true);
  const [isAway, setIsAway] = useState(false);
  const follow = (): void => {
    if (isFollowing.current) endRef.current?.scrollIntoView({ block: "end" });
  };
  const scrollRef = useCallback((element: HTMLDivElement | null) => {
    if (!element) return;
    let previousTop = element.scrollTop;
    const handleScroll = (): void => {
      const { scrollTop, scrollHeight, clientHeight } = element;
      const distance = scrollHeight - scrollTop - clientHeight;
      // A formula may grow between a scroll to the end and its event: only scrolling up ends the following.
      if (distance < FOLLOW_DISTANCE_PX) isFollowing.current = true;
      else if (scrollTop < previousTop) isFollowing.current = false;
      previousTop = scrollTop;
      setIsAway(distance > AWAY_DISTANCE_PX);
    };
    element.addEventListener("scroll", handleScroll, { passive: true });
    // Formulas and code render after their text, and move the end.
    const resizeObserver = new ResizeObserver(follow);
    const observeChildren = (): void => {
      resizeObserver.disconnect();
      for (const child of element.children) resizeObserver.observe(child);
    };
    const childObserver = new MutationObserver(observeChildren);
    childObserver.observe(element, { childList: true });
    observeChildren();
    return () => {
      element.removeEventListener("scroll", handleScroll);
      childObserver.disconnect();
      resizeObserver.disconnect();
    };
  }, []);
  const isStreaming = streaming !== null;
  useEffect(() => {
    isFollowing.current = true;
  }, [summary?.id]);
  useEffect(() => {
    if (isStreaming) isFollowing.current = true;
  }, [isStreaming]);
  useEffect(follow, [streaming?.text, messages.length, isStreaming]);
  const scrollToEnd = (): void => {
    isFollowing.current = true;
    follow();
  };
  return { scrollRef, endRef, scrollToEnd: isAway ? scrollToEnd : null };
}
