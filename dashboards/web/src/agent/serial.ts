/** The browser's serial ports (Web Serial API), and the loop that reads one of them. */

import type { PortIdentity } from "./database";

/** The parts of the Web Serial API that are used here; the types of the DOM do not have it yet. */
export interface SerialPort extends EventTarget {
  readonly readable: ReadableStream<Uint8Array> | null;
  open(options: { baudRate: number; bufferSize?: number }): Promise<void>;
  close(): Promise<void>;
  getInfo(): PortIdentity;
  forget?(): Promise<void>;
}

interface Serial extends EventTarget {
  getPorts(): Promise<SerialPort[]>;
  requestPort(): Promise<SerialPort>;
}

/** Bytes that the browser keeps until the page reads them: half a second of 921,600 baud. */
const BUFFER_BYTES = 64 * 1024;

/** Return the browser's serial ports, null if it has none for this page. */
export function serialPorts(): Serial | null {
  return (navigator as Navigator & { serial?: Serial }).serial ?? null;
}

/** Browsers that have them. docs/boards.md says the same. */
export const SERIAL_BROWSERS = "Chrome 89, Edge 89, Opera 76, Firefox 151, or a newer version, on a computer";

/** Why a page has no serial ports. */
export type SerialProblem = "insecure" | "unsupported" | "forbidden";

/** Return why this page has no serial ports, null if it has them. */
export function serialProblem(): SerialProblem | null {
  if (!window.isSecureContext) return "insecure";
  if (serialPorts() === null) return "unsupported";
  const policy = (document as Document & { featurePolicy?: { allowsFeature(name: string): boolean } }).featurePolicy;
  return policy?.allowsFeature("serial") === false ? "forbidden" : null;
}

/** Return the granted ports. */
export async function grantedPorts(): Promise<SerialPort[]> {
  return (await serialPorts()?.getPorts()) ?? [];
}

/** Let the person choose a port; null if nothing was chosen. */
export async function choosePort(): Promise<SerialPort | null> {
  try {
    return (await serialPorts()?.requestPort()) ?? null;
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return null;
    throw error;
  }
}

const digits = (number: number) => number.toString(16).padStart(4, "0");

/** Return the name of a port: its USB identity, as a browser reveals nothing else of it. */
export function portName({ usbVendorId, usbProductId }: PortIdentity): string {
  if (usbVendorId === undefined) return "serial port";
  return `USB ${digits(usbVendorId)}:${digits(usbProductId ?? 0)}`;
}

/** Return whether a port is of the same kind as another one, as far as a browser reveals it. */
export function isSamePort(first: PortIdentity, second: PortIdentity): boolean {
  return first.usbVendorId === second.usbVendorId && first.usbProductId === second.usbProductId;
}

/** Errors of a port that a wrong baud rate or a slow page causes; reading continues behind them. */
const PASSING = new Set(["BreakError", "BufferOverrunError", "FramingError", "ParityError"]);

/** Receiver of what a port sends. */
export interface PortListener {
  /** Process bytes. Reading waits for it, so that the port's buffer bounds what arrives meanwhile. */
  received(bytes: Uint8Array): Promise<void>;
  /** An error that reading continues behind, by the name of its DOMException. */
  failed(name: string): void;
}

/** Reader of one open port. */
export class PortReader {
  private readonly port: SerialPort;
  private reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  private isClosed = false;

  constructor(port: SerialPort) {
    this.port = port;
  }

  /** Open the port and read it until `close`, or until it is unplugged. Throws the error of the port. */
  async run(baud: number, listener: PortListener, onOpen: () => void): Promise<void> {
    await this.port.open({ baudRate: baud, bufferSize: BUFFER_BYTES });
    try {
      onOpen();
      while (this.port.readable !== null && !this.isClosed) await this.readStream(this.port.readable, listener);
    } finally {
      await this.port.close().catch(() => undefined);
    }
    if (!this.isClosed) throw new Error("the device was unplugged");
  }

  /** Read until the stream ends or has an error, after which the port has a new stream. */
  private async readStream(stream: ReadableStream<Uint8Array>, listener: PortListener): Promise<void> {
    this.reader = stream.getReader();
    try {
      for (;;) {
        const { value, done } = await this.reader.read();
        if (done) return;
        await listener.received(value);
      }
    } catch (error) {
      if (!(error instanceof DOMException) || !PASSING.has(error.name)) throw error;
      listener.failed(error.name);
    } finally {
      this.reader.releaseLock();
      this.reader = null;
    }
  }

  /** End `run`. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.reader?.cancel().catch(() => undefined);
  }
}
