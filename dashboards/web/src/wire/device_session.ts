/**
 * Agent's side of the device protocol as a pure state machine: which batch is next, and which are acknowledged. The
 * counterpart of `AgentDeviceSession` in wire/device_session.py, which shows the transition table.
 */

import type { HubMessage } from "./device";
import { WireError } from "./protocol";

/** Bounds of the values that a hub, or a server that claims to be one, imposes. As agent_client/bounds.py. */
const MAX_WINDOW = 65_536;
const MIN_BATCH_BYTES = 1024;
const MAX_BATCH_BYTES = 256 * 1024;
const MAX_RETRY_MS = 30_000;

export class AgentSession {
  state: "greeting" | "open" | "closed" = "greeting";
  /** The highest acknowledged number. */
  acked = 0;
  /** The highest number that was sent on this connection or need not be sent; the next one is always `sent + 1`. */
  sent = 0;
  maxBatchBytes = 0;
  retry_ms = 0;
  private window = 0;
  private nextSeq: number;

  /** `nextSeq` is that of the hello. */
  constructor(nextSeq: number) {
    this.nextSeq = nextSeq;
  }

  /** The number of batches that may be sent now. */
  get room(): number {
    return this.state === "open" ? this.window - (this.sent - this.acked) : 0;
  }

  /** Apply a message of the hub. Throws WireError for one that a correct hub does not send. */
  receive(message: HubMessage): void {
    const isAllowed = message.type === "error" ? this.state !== "closed" : this.state === this.requiredFor(message);
    if (!isAllowed) throw new WireError("unexpected_message", `${message.type} while the session is ${this.state}`);
    switch (message.type) {
      case "welcome":
        if (message.acked >= this.nextSeq)
          throw new WireError(
            "rolled_back",
            `the hub holds batches up to ${message.acked} of this epoch, but the spool's next is ${this.nextSeq}`,
          );
        this.state = "open";
        this.acked = message.acked;
        this.sent = message.acked;
        this.window = Math.min(message.window, MAX_WINDOW);
        this.maxBatchBytes = Math.min(Math.max(message.max_batch_bytes, MIN_BATCH_BYTES), MAX_BATCH_BYTES);
        this.retry_ms = Math.min(message.retry_ms, MAX_RETRY_MS);
        break;
      case "ack":
        this.checkKnown(message.seq, "acknowledged");
        this.acked = Math.max(this.acked, message.seq);
        // Batches of an older connection may become durable only now: they need not be sent again.
        this.sent = Math.max(this.sent, message.seq);
        break;
      case "reject":
        this.checkKnown(message.seq, "rejected");
        break;
      case "error":
        this.state = "closed";
        break;
    }
  }

  private requiredFor(message: HubMessage): AgentSession["state"] {
    return message.type === "welcome" ? "greeting" : "open";
  }

  private checkKnown(seq: number, what: string): void {
    if (seq >= this.nextSeq)
      throw new WireError("unexpected_seq", `${seq} was ${what}, but the newest batch is ${this.nextSeq - 1}`);
  }

  /** Record that a batch (first = last) or a gap is sent. Throws WireError if it is not the next one. */
  send(first: number, last = first): void {
    if (this.room < 1) throw new WireError("window_exceeded", `${this.acked + 1} to ${this.sent} are not acknowledged`);
    if (first !== this.sent + 1 || last < first)
      throw new WireError("unexpected_seq", `expected ${this.sent + 1}, got ${first} to ${last}`);
    this.sent = last;
    this.nextSeq = Math.max(this.nextSeq, last + 1);
  }
}
