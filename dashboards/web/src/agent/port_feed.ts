/** Port of a board: opened, read, and opened again when the board is plugged in again; its bytes become lines. */

import { type Signal, signal } from "@preact/signals";
import type { KnownType } from "../formats/interpretation";
import { rulesOf } from "../formats/rules";
import type { BoardSettings, PortIdentity } from "./database";
import { LineInput, type LineResult } from "./lines";
import { grantedPorts, isSamePort, PortReader, portName, type SerialPort, serialPorts } from "./serial";

/** Longest wait for another of the lines that decide the format. */
const HEAD_MS = 2000;
/** Delay before a port is opened again; it doubles up to the longest one. */
const [REOPEN_MS, MAX_REOPEN_MS] = [500, 5000];

/** State of a port. One that failed is opened again when the device is plugged in, or after a delay. */
export type PortStatus = { state: "closed" | "opening" | "reading" } | { state: "failed"; reason: string };

/** Receiver of lines. Reading waits for it. `bytes` are those that completed the lines. */
export type LineSink = (results: readonly LineResult[], bytes: Uint8Array) => Promise<void>;

/** Return nanoseconds since 1970 with the browser's finest resolution, which follow changes of the computer's clock. */
export function nowNs(): bigint {
  const fine_ms = performance.timeOrigin + performance.now();
  const ms = Math.abs(fine_ms - Date.now()) < 50 ? fine_ms : Date.now();
  return BigInt(Math.round(ms * 1000)) * 1000n;
}

export class PortFeed {
  readonly status: Signal<PortStatus> = signal({ state: "closed" });
  /** Errors of the port that reading continued behind, by the name of their DOMException. */
  readonly errors = new Map<string, number>();
  identity: PortIdentity;
  private settings: BoardSettings;
  private readonly sink: LineSink;
  private knownType: KnownType;
  private input: LineInput;
  private serial: SerialPort | null = null;
  private reader: PortReader | null = null;
  private reopen_ms = REOPEN_MS;
  private headTimer: ReturnType<typeof setTimeout> | undefined;
  private reopenTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly listening = new AbortController();

  /** `lines` are the first lines of an earlier run, which decide the format again. */
  constructor(
    identity: PortIdentity,
    settings: BoardSettings,
    sink: LineSink,
    knownType: KnownType = () => null,
    lines: Uint8Array[] = [],
  ) {
    this.identity = identity;
    this.settings = settings;
    this.sink = sink;
    this.knownType = knownType;
    this.input = new LineInput(rulesOf(settings.rules), knownType, lines);
    const { signal } = this.listening;
    serialPorts()?.addEventListener("connect", () => void this.reopen(), { signal });
  }

  get name(): string {
    return portName(this.identity);
  }

  /** The format with its reason; null before it is known. */
  get detection() {
    return this.input.detection;
  }

  /** The first lines, which decided the format. */
  get lines(): Uint8Array[] {
    return this.input.lines;
  }

  /** Read a port. */
  read(serial: SerialPort): void {
    this.serial = serial;
    this.identity = serial.getInfo();
    this.openPort(serial);
  }

  /** Read the granted port of the board if it is plugged in; otherwise wait for it. */
  async resume(): Promise<void> {
    this.status.value = { state: "failed", reason: `${this.name} is not plugged in, or not allowed for this page` };
    await this.reopen();
  }

  /** Change the settings; the port is opened again for another baud rate. Throws RulesError. */
  async configure(settings: BoardSettings): Promise<void> {
    const input = new LineInput(rulesOf(settings.rules), this.knownType);
    this.finishHead();
    const isNewBaud = settings.baud !== this.settings.baud;
    this.settings = settings;
    this.input = input;
    if (!isNewBaud || this.serial === null) return;
    await this.stop();
    this.openPort(this.serial);
  }

  /** Continue with the types that the metrics of a device have already. */
  adopt(knownType: KnownType): void {
    this.knownType = knownType;
    this.input.adopt(knownType);
  }

  /** Close the port. */
  async stop(): Promise<void> {
    const { reader } = this;
    this.reader = null;
    clearTimeout(this.reopenTimer);
    await reader?.close();
    this.finishHead();
    this.status.value = { state: "closed" };
  }

  /** Close the port for good. */
  async close(): Promise<void> {
    this.listening.abort();
    await this.stop();
  }

  /** Read the lines that wait for others, so that the format can be chosen. */
  finishHead(): void {
    clearTimeout(this.headTimer);
    if (this.input.isWaiting) void this.sink(this.input.begin(), new Uint8Array());
  }

  private openPort(serial: SerialPort): void {
    const reader = new PortReader(serial);
    this.reader = reader;
    this.status.value = { state: "opening" };
    const onOpen = () => {
      if (reader !== this.reader) return;
      this.input.open();
      this.reopen_ms = REOPEN_MS;
      this.status.value = { state: "reading" };
    };
    const listener = {
      received: (bytes: Uint8Array) => this.receive(bytes),
      failed: (name: string) => this.errors.set(name, (this.errors.get(name) ?? 0) + 1),
    };
    reader.run(this.settings.baud, listener, onOpen).catch((error: unknown) => {
      if (reader !== this.reader) return;
      this.reader = null;
      this.status.value = { state: "failed", reason: portProblem(error) };
      this.reopenTimer = setTimeout(() => void this.reopen(), this.reopen_ms);
      this.reopen_ms = Math.min(this.reopen_ms * 2, MAX_REOPEN_MS);
    });
  }

  /** Open the port again: it was plugged in, or a delay has passed. */
  private async reopen(): Promise<void> {
    clearTimeout(this.reopenTimer);
    const ports = await grantedPorts();
    // A device that was unplugged has another port object when it is back.
    const found =
      ports.find((port) => port === this.serial) ?? ports.find((port) => isSamePort(port.getInfo(), this.identity));
    if (found === undefined || this.status.peek().state !== "failed") return;
    this.serial = found;
    this.openPort(found);
  }

  private async receive(bytes: Uint8Array): Promise<void> {
    const results = this.input.feed(bytes, nowNs());
    clearTimeout(this.headTimer);
    if (this.input.isWaiting) this.headTimer = setTimeout(() => this.finishHead(), HEAD_MS);
    await this.sink(results, bytes);
  }
}

/** Return why a port cannot be read, and what to do. */
function portProblem(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NetworkError" || name === "InvalidStateError")
    return "the port cannot be opened, or was unplugged: close other programs that use it, and check the cable";
  return error instanceof Error ? error.message : String(error);
}
