import { describe, expect, it } from "vitest";
import { decodeUpdate } from "../../src/wire/frames";
import type { LiveMessage, Subscribe } from "../../src/wire/live";
import { ViewerSession } from "../../src/wire/live_session";
import { WireError } from "../../src/wire/protocol";
import { bytesOf, golden } from "./golden";

interface Step {
  subscribe?: Subscribe;
  unsubscribe?: number;
  sends?: object | null;
  receive?: LiveMessage;
  frame?: string;
  for?: number[];
  reconnect?: boolean;
  refused?: string;
  opening?: object[];
  then?: { state: string; subscriptions: Record<string, object> };
}

const { conversations } = golden<{ conversations: { name: string; steps: Step[] }[] }>("live_conversations");

function take(session: ViewerSession, step: Step): void {
  if (step.subscribe !== undefined) session.subscribe(step.subscribe);
  else if (step.unsubscribe !== undefined) {
    const message = session.unsubscribe(step.unsubscribe);
    if (step.sends !== undefined) expect(message).toEqual(step.sends);
  } else if (step.receive !== undefined) session.receive(step.receive);
  else if (step.frame !== undefined) {
    const targets = session.receiveUpdate(decodeUpdate(bytesOf(step.frame)));
    if (step.for !== undefined) expect(targets).toEqual(step.for);
  } else session.reconnect();
}

function standing(session: ViewerSession): object {
  const subscriptions: Record<string, object> = {};
  for (const [id, { progress, schema, cursor, conflated }] of session.subscriptions)
    subscriptions[id] = { progress, schema, cursor, conflated };
  return { state: session.state, subscriptions };
}

describe("conversations", () => {
  it.each(conversations)("$name", ({ steps }) => {
    const session = new ViewerSession();
    for (const step of steps) {
      let refused: string | undefined;
      try {
        take(session, step);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        refused = error.code;
      }
      expect(refused).toBe(step.refused);
      if (step.opening !== undefined) expect(session.openingMessages()).toEqual(step.opening);
      if (step.then !== undefined) expect(standing(session)).toEqual(step.then);
    }
  });
});
