/** The commands of the open device: those that it declares, and those that were sent to it, as they move. */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import {
  cancelCommand,
  fetchCommands,
  fetchDeclaredCommands,
  type NewCommand,
  sendCommand,
  waitForCommand,
} from "../../data/api";
import { isOpen, mergeCommands } from "../../data/commands";
import { Poller } from "../../data/poller";
import type { CommandDetails, DeclaredCommand } from "../../wire/api";

/** Others send commands, too. What this page sends is followed without this delay. */
const POLL_PERIOD_MS = 5000;
/** Commands of one answer. */
const LIMIT = 20;
/** A request that waits holds one of the browser's six connections: only one command is followed at a time. */
const WAIT_S = 25;

export class DeviceCommands {
  /** null until the hub has answered. */
  readonly declared: Signal<DeclaredCommand[] | null> = signal(null);
  /** Newest first. The hub keeps 200 ended commands and 100 open ones of a device. */
  readonly sent: Signal<CommandDetails[]> = signal([]);
  /** Cursor of older commands; null if there are none. */
  readonly next: Signal<string | null> = signal(null);
  private readonly device: string;
  private readonly isConnected: () => boolean;
  private readonly poller: Poller<void>;
  private readonly stop: () => void;
  private followed: { id: string; abort: AbortController } | null = null;
  private isClosed = false;

  constructor(device: string, isConnected: () => boolean) {
    this.device = device;
    this.isConnected = isConnected;
    this.poller = new Poller(() => this.load(), POLL_PERIOD_MS);
    this.stop = this.poller.start();
  }

  /** Why the hub does not return the commands; null if it does. */
  get problem(): ReadonlySignal<string | null> {
    return this.poller.problem;
  }

  /** True after the hub has answered, or failed to. */
  get isSettled(): boolean {
    return this.declared.value !== null || this.problem.value !== null;
  }

  /** Load the commands now: the device has connected, and may declare others. */
  refresh(): void {
    this.load().catch(() => {
      // The poller asks again, and reports the problem.
    });
  }

  close(): void {
    this.isClosed = true;
    this.stop();
    this.followed?.abort.abort();
  }

  /** Send a command and follow it. Throws ApiError. */
  async send(command: NewCommand): Promise<CommandDetails> {
    const recorded = await sendCommand(this.device, command);
    this.add([recorded]);
    return recorded;
  }

  /** Take back a queued command. Throws ApiError. */
  async cancel(command: CommandDetails): Promise<void> {
    this.add([await cancelCommand(command)]);
  }

  /** Load the commands before those that are known. Throws ApiError. */
  async loadOlder(): Promise<void> {
    const page = await fetchCommands(this.device, LIMIT, this.next.peek());
    this.next.value = page.next;
    this.add(page.commands);
  }

  private async load(): Promise<void> {
    const [declared, page] = await Promise.all([fetchDeclaredCommands(this.device), fetchCommands(this.device, LIMIT)]);
    if (JSON.stringify(declared) !== JSON.stringify(this.declared.peek())) this.declared.value = declared;
    const known = new Set(this.sent.peek().map(({ id }) => id));
    // Without one in common there are commands between these and the known ones.
    if (!page.commands.some(({ id }) => known.has(id))) {
      this.sent.value = [];
      this.next.value = page.next;
    }
    this.add(page.commands);
  }

  private add(answered: CommandDetails[]): void {
    this.sent.value = mergeCommands(this.sent.peek(), answered);
    void this.follow();
  }

  /** Wait for the next state of the newest command that moves. */
  private async follow(): Promise<void> {
    const command = this.sent.peek().find((known) => isOpen(known) && (known.state !== "queued" || this.isConnected()));
    if (this.isClosed || command === undefined || command.id === this.followed?.id) return;
    this.followed?.abort.abort();
    const following = { id: command.id, abort: new AbortController() };
    this.followed = following;
    const began_ms = performance.now();
    const seen = command.states.length;
    let answer: CommandDetails | null = null;
    try {
      answer = await waitForCommand(command, { wait_s: WAIT_S, seen }, following.abort.signal);
    } catch {
      // The poller asks again, and reports the problem.
    }
    if (this.followed === following) this.followed = null;
    if (answer === null || this.isClosed) return;
    // A hub with too many waiting requests answers at once, without news: the poller continues then.
    const isNews = answer.states.length > seen || performance.now() - began_ms > WAIT_S * 500;
    if (isNews) this.add([answer]);
  }
}
