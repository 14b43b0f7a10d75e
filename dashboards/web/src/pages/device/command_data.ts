/** The commands of the open device: those that it declares, and those that were sent to it, as they move. */

import { type Signal, signal } from "@preact/signals";
import {
  cancelCommand,
  fetchCommands,
  fetchDeclaredCommands,
  type NewCommand,
  sendCommand,
  waitForCommand,
} from "../../data/api";
import { isOpen, mergeCommands } from "../../data/commands";
import { Follower, WAIT_S, type Waiting } from "../../data/follower";
import type { CommandDetails, DeclaredCommand } from "../../wire/api";

/** Commands of one answer. */
const LIMIT = 20;

export class DeviceCommands {
  /** null until the hub has answered. */
  readonly declared: Signal<DeclaredCommand[] | null> = signal(null);
  /** Newest first. The hub keeps 200 ended commands and 100 open ones of a device. */
  readonly sent: Signal<CommandDetails[]> = signal([]);
  /** Cursor of older commands; null if there are none. */
  readonly next: Signal<string | null> = signal(null);
  readonly follower: Follower<CommandDetails>;
  private readonly device: string;
  private readonly isConnected: () => boolean;

  constructor(device: string, isConnected: () => boolean) {
    this.device = device;
    this.isConnected = isConnected;
    this.follower = new Follower({
      load: () => this.load(),
      next: () => this.waiting(),
      receive: (answer) => this.merge([answer]),
    });
  }

  /** True after the hub has answered, or failed to. */
  get isSettled(): boolean {
    return this.declared.value !== null || this.follower.problem.value !== null;
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
    this.merge(page.commands);
  }

  private add(answered: CommandDetails[]): void {
    this.merge(answered);
    void this.follower.follow();
  }

  private merge(answered: CommandDetails[]): void {
    this.sent.value = mergeCommands(this.sent.peek(), answered);
  }

  /** Return the request that waits for the next state of the newest command that moves. */
  private waiting(): Waiting<CommandDetails> | null {
    const command = this.sent.peek().find((known) => isOpen(known) && (known.state !== "queued" || this.isConnected()));
    if (command === undefined) return null;
    const seen = command.states.length;
    return {
      key: command.id,
      request: (signal) => waitForCommand(command, { wait_s: WAIT_S, seen }, signal),
      isNews: ({ states }) => states.length > seen,
    };
  }
}
