/**
 * The viewer's end of the live protocol as a pure state machine: the counterpart of wire/live_session.py, which shows
 * the transition table.
 */

import { type Code, WireError } from "./errors";
import { Kind, type Update } from "./frames";
import type { Cursor, LiveMessage, Series, Subscribe, Unsubscribe } from "./live";

export type State = "opening" | "open" | "closed";
export type Progress = "asked" | "catching_up" | "live";

/** The viewer's view of one subscription: what was asked, where it stands, and its cursor. */
export interface Subscription {
  asked: Subscribe;
  progress: Progress;
  schema: number;
  cursor: Cursor | null;
  conflated: number;
}

/** Errors that name a subscription without ending it. */
const GOING_ON: ReadonlySet<Code> = new Set<Code>(["unavailable", "duplicate_subscription"]);

/** Remembers subscriptions and cursors over reconnects, and says for whom each frame is. */
export class ViewerSession {
  state: State = "opening";
  journal = "";
  readonly subscriptions = new Map<number, Subscription>();
  readonly schemas = new Map<number, Series[]>();
  private newestId = 0;

  /** A new subscription; its message goes out with `openingMessages`, or now when the connection is open. */
  subscribe(asked: Subscribe): void {
    // Late messages may still name an ended subscription, so ids count up within a connection.
    if (asked.id <= this.newestId)
      throw new WireError("duplicate_subscription", `${asked.id} does not come after ${this.newestId}`);
    this.newestId = asked.id;
    this.subscriptions.set(asked.id, {
      asked,
      progress: "asked",
      schema: 0,
      cursor: asked.cursor ?? null,
      conflated: 0,
    });
  }

  /** Ends a subscription; returns the message that says so to the hub, null when the hub does not know of it. */
  unsubscribe(id: number): Unsubscribe | null {
    const existed = this.subscriptions.delete(id);
    return existed && this.state === "open" ? { type: "unsubscribe", id } : null;
  }

  /** A new connection begins: schemas are forgotten, cursors are kept. */
  reconnect(): void {
    this.state = "opening";
    this.schemas.clear();
    this.newestId = Math.max(0, ...this.subscriptions.keys());
    for (const subscription of this.subscriptions.values()) {
      subscription.progress = "asked";
      subscription.schema = 0;
    }
  }

  /** What to send after the welcome: every subscription with its cursor. */
  openingMessages(): Subscribe[] {
    return [...this.subscriptions.values()].map(({ asked, cursor }) => {
      const { cursor: _asked, ...rest } = asked;
      return cursor === null ? rest : { ...rest, cursor };
    });
  }

  /** Follows any message of the hub. Throws WireError for one that a correct hub does not send. */
  receive(message: LiveMessage): void {
    const wanted = message.type === "welcome" ? "opening" : "open";
    if (this.state !== wanted && !(message.type === "error" && this.state === "opening"))
      throw new WireError("unexpected_message", `${message.type} while ${this.state}`);
    switch (message.type) {
      case "welcome":
        this.state = "open";
        this.journal = message.journal;
        break;
      case "error":
        if (message.id == null) this.state = "closed";
        else if (!GOING_ON.has(message.code)) this.subscriptions.delete(message.id);
        break;
      case "schema": {
        const known = this.schemas.get(message.schema) ?? [];
        if (message.first > known.length)
          throw new WireError("unexpected_message", `schema ${message.schema} leaves out ${known.length}`);
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
      default:
        break;
    }
  }

  /** For which subscriptions a frame is; their cursors move. Throws WireError for one that a correct hub does not send. */
  receiveUpdate(update: Update): number[] {
    const series = this.schemas.get(update.schema);
    const beyond = (column: { series: number }) => series === undefined || column.series >= series.length;
    if (
      this.state !== "open" ||
      series === undefined ||
      update.numbers.some(beyond) ||
      update.texts.some(beyond)
    )
      throw new WireError(
        "unexpected_message",
        `an update of schema ${update.schema} before its description`,
      );
    const targets = this.targets(update);
    for (const subscription of targets) {
      subscription.conflated += update.conflated;
      // Of a frame in several parts only the last one has the offset: a cursor never runs ahead of its readings.
      if (update.offset > 0 && (update.kind === Kind.LIVE || update.kind === Kind.MISSED))
        this.advance(subscription, update.offset);
    }
    return targets.map((subscription) => subscription.asked.id);
  }

  private targets(update: Update): Subscription[] {
    const live = update.kind === Kind.LIVE;
    if (update.subscription !== 0) {
      const named = this.expect(update.subscription, "update", live ? "live" : "catching_up");
      if (named !== null && named.schema !== update.schema)
        throw new WireError("unexpected_message", `an update of another schema than the subscription's`);
      return named === null ? [] : [named];
    }
    if (!live) throw new WireError("unexpected_message", "only live updates are for a whole schema");
    return [...this.subscriptions.values()].filter(
      (subscription) => subscription.schema === update.schema && subscription.progress === "live",
    );
  }

  /** The subscription, which must have come this far; null when the page has ended it meanwhile. */
  private expect(id: number, what: string, ...allowed: Progress[]): Subscription | null {
    const subscription = this.subscriptions.get(id);
    if (subscription === undefined) return null;
    if (!allowed.includes(subscription.progress))
      throw new WireError(
        "unexpected_message",
        `${what} while subscription ${id} is ${subscription.progress}`,
      );
    return subscription;
  }

  private advance(subscription: Subscription, offset: number): void {
    const { cursor } = subscription;
    if (cursor === null || cursor.journal !== this.journal || offset > cursor.offset)
      subscription.cursor = { journal: this.journal, offset };
  }
}
