/**
 * Viewer side of the live protocol as a pure state machine: the counterpart of wire/live_session.py, which shows
 * the transition table.
 */

import { Kind, type Update } from "./frames";
import type { Cursor, LiveMessage, Series, Subscribe, Unsubscribe } from "./live";
import { type Code, WireError } from "./protocol";

export type State = "opening" | "open" | "closed";
/** The names are those of the shared golden conversations. */
export type Progress = "asked" | "catching_up" | "live";

/** One subscription: the request, its progress and its cursor. */
interface Subscription {
  request: Subscribe;
  progress: Progress;
  schema: number;
  cursor: Cursor | null;
  conflated: number;
}

/** Errors that name a subscription without ending it. */
const NON_FATAL: ReadonlySet<Code> = new Set<Code>(["unavailable", "duplicate_subscription"]);

/** State machine that keeps subscriptions and cursors across reconnects and routes each frame. */
export class ViewerSession {
  state: State = "opening";
  journal = "";
  readonly subscriptions = new Map<number, Subscription>();
  readonly schemas = new Map<number, Series[]>();
  private newestId = 0;

  /** Add a subscription. Its message is sent with `openingMessages`, or now if the connection is open. */
  subscribe(request: Subscribe): void {
    // Late messages may name an ended subscription, so ids increase within a connection.
    if (request.id <= this.newestId)
      throw new WireError("duplicate_subscription", `${request.id} does not come after ${this.newestId}`);
    this.newestId = request.id;
    this.subscriptions.set(request.id, {
      request,
      progress: "asked",
      schema: 0,
      cursor: request.cursor ?? null,
      conflated: 0,
    });
  }

  /** End a subscription. Return the message for the hub, or null if the hub does not know it. */
  unsubscribe(id: number): Unsubscribe | null {
    const existed = this.subscriptions.delete(id);
    return existed && this.state === "open" ? { type: "unsubscribe", id } : null;
  }

  /** Start a new connection: schemas are discarded, cursors are kept. */
  reconnect(): void {
    this.state = "opening";
    this.schemas.clear();
    this.newestId = Math.max(0, ...this.subscriptions.keys());
    for (const subscription of this.subscriptions.values()) {
      subscription.progress = "asked";
      subscription.schema = 0;
    }
  }

  /** Return the messages to send after the welcome: every subscription with its cursor. */
  openingMessages(): Subscribe[] {
    return [...this.subscriptions.values()].map(({ request, cursor }) => {
      const { cursor: _requested, ...rest } = request;
      return cursor === null ? rest : { ...rest, cursor };
    });
  }

  /** Process a message from the hub. Throws WireError for an unexpected message. */
  receive(message: LiveMessage): void {
    const required = message.type === "welcome" ? "opening" : "open";
    if (this.state !== required && !(message.type === "error" && this.state === "opening"))
      throw new WireError("unexpected_message", `${message.type} while ${this.state}`);
    switch (message.type) {
      case "welcome":
        this.state = "open";
        this.journal = message.journal;
        break;
      case "error":
        if (message.id == null) this.state = "closed";
        else if (!NON_FATAL.has(message.code)) this.subscriptions.delete(message.id);
        break;
      case "schema": {
        const known = this.schemas.get(message.schema) ?? [];
        if (message.first > known.length)
          throw new WireError("unexpected_message", `schema ${message.schema} skips series ${known.length}`);
        this.schemas.set(message.schema, [...known.slice(0, message.first), ...message.series]);
        break;
      }
      case "subscribed": {
        const subscription = this.expect(message.id, message.type, "asked");
        if (subscription === null) break;
        subscription.schema = message.schema;
        subscription.progress = "catching_up";
        if (message.start !== "cursor") subscription.cursor = null;
        break;
      }
      case "reset": {
        const subscription = this.expect(message.id, message.type, "asked", "catching_up");
        if (subscription === null) break;
        subscription.progress = "asked";
        subscription.cursor = null;
        break;
      }
      case "caught_up": {
        const subscription = this.expect(message.id, message.type, "catching_up");
        if (subscription === null) break;
        subscription.progress = "live";
        this.advance(subscription, message.offset);
        break;
      }
    }
  }

  /**
   * Return the subscriptions that receive a frame, and advance their cursors. Throws WireError for an unexpected
   * frame.
   */
  receiveUpdate(update: Update): number[] {
    const series = this.schemas.get(update.schema);
    const beyond = (column: { series: number }) => series === undefined || column.series >= series.length;
    if (this.state !== "open" || series === undefined || update.numbers.some(beyond) || update.texts.some(beyond))
      throw new WireError("unexpected_message", `an update for schema ${update.schema} before its description`);
    const targets = this.targets(update);
    for (const subscription of targets) {
      subscription.conflated += update.conflated;
      // Only the last part of a split frame carries the offset, so a cursor never precedes its readings.
      if (update.offset > 0 && (update.kind === Kind.LIVE || update.kind === Kind.MISSED))
        this.advance(subscription, update.offset);
    }
    return targets.map((subscription) => subscription.request.id);
  }

  private targets(update: Update): Subscription[] {
    const live = update.kind === Kind.LIVE;
    if (update.subscription !== 0) {
      const named = this.expect(update.subscription, "update", live ? "live" : "catching_up");
      if (named !== null && named.schema !== update.schema)
        throw new WireError("unexpected_message", `an update for another schema than the subscription's`);
      return named === null ? [] : [named];
    }
    if (!live) throw new WireError("unexpected_message", "only live updates are for a whole schema");
    return [...this.subscriptions.values()].filter(
      (subscription) => subscription.schema === update.schema && subscription.progress === "live",
    );
  }

  /** Return the subscription after checking its progress; null if the page has ended it. */
  private expect(id: number, what: string, ...allowed: Progress[]): Subscription | null {
    const subscription = this.subscriptions.get(id);
    if (subscription === undefined) return null;
    if (!allowed.includes(subscription.progress))
      throw new WireError("unexpected_message", `${what} while subscription ${id} is ${subscription.progress}`);
    return subscription;
  }

  private advance(subscription: Subscription, offset: number): void {
    const { cursor } = subscription;
    if (cursor === null || cursor.journal !== this.journal || offset > cursor.offset)
      subscription.cursor = { journal: this.journal, offset };
  }
}
