/** A device's state: always a shape and a word, so that it is told without colours, too. */

import type { Condition } from "../data/fleet";

const WORDS: Record<Condition, string> = { online: "Online", silent: "Silent", offline: "Offline" };

/** Full: fine. Half: connected but silent. Cross: gone. */
export function Shape({ condition }: { condition: Condition }) {
  return (
    <svg class={`shape ${condition}`} viewBox="0 0 10 10" aria-hidden="true">
      {condition === "online" && <circle cx="5" cy="5" r="4" fill="currentColor" />}
      {condition === "silent" && (
        <>
          <circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="1.6" />
          <path d="M5 1a4 4 0 0 1 0 8z" fill="currentColor" />
        </>
      )}
      {condition === "offline" && (
        <path d="M2 2l6 6M8 2 2 8" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" />
      )}
    </svg>
  );
}

export function ConditionMark({ condition }: { condition: Condition }) {
  return (
    <span class={`condition ${condition}`} data-testid="condition">
      <Shape condition={condition} />
      {WORDS[condition]}
    </span>
  );
}
