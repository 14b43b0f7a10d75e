/** The board of this tab: its port, its lines, and its stream to the hub. A board that streams continues after a reload. */

import { effect, type Signal, signal } from "@preact/signals";
import { Board } from "../agent/board";
import { BoardDatabase, type BoardRecord, type BoardSettings, newBoard } from "../agent/database";
import type { LineResult } from "../agent/lines";
import { PortFeed } from "../agent/port_feed";
import { choosePort, grantedPorts, type SerialPort, serialProblem } from "../agent/serial";
import { basePath, hubUrl, webSocketUrl } from "../wire/base_path";
import { createToken, errorText, revokeToken } from "./api";
import { LineLog, type LineTotals, NO_LINES, type ShownLine } from "./board_lines";

/** Time between two updates of what is shown: a board can send thousands of lines a second. */
const SHOW_EVERY_MS = 100;
/** Key of the local storage with the boards to continue, so that most pages need not open the database. */
const OPEN_BOARDS = `telemetry-hub.boards ${basePath}`;

export const DEFAULT_SETTINGS: BoardSettings = { baud: 115_200, rules: {} };
export const BAUD_RATES = [9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

/** Formats to choose from, with their names. */
export const BOARD_FORMATS: [string, string][] = [
  ["", "By its lines"],
  ["json", "JSON"],
  ["pairs", "Pairs"],
  ["plotter", "Serial Plotter"],
  ["csv", "CSV and tables"],
  ["nmea", "NMEA 0183"],
  ["value", "Bare values"],
  ["senml", "SenML"],
  ["line", "Line protocol"],
];

/** A board that another tab of this browser runs. */
export class BoardInUse extends Error {
  constructor(device: string) {
    super(`Another tab of this browser runs ${device}. Use that tab, or close it.`);
  }
}

export class BoardTab {
  /** The port that is read; null before one is chosen. */
  readonly feed: Signal<PortFeed | null> = signal(null);
  /** The board that is stored and streamed; null before the start. */
  readonly board: Signal<Board | null> = signal(null);
  /** The boards that this browser knows. */
  readonly records: Signal<BoardRecord[]> = signal([]);
  readonly ports: Signal<SerialPort[]> = signal([]);
  readonly settings: Signal<BoardSettings> = signal(DEFAULT_SETTINGS);
  readonly lines: Signal<ShownLine[]> = signal([]);
  readonly totals: Signal<LineTotals> = signal(NO_LINES);
  readonly isNoise = signal(false);
  /** Why the boards of this browser are not known; null if they are. */
  readonly problem: Signal<string | null> = signal(null);
  private database: Promise<BoardDatabase> | null = null;
  private log = new LineLog();
  private showTimer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    effect(() => {
      const [feed, board] = [this.feed.value, this.board.value];
      if (feed !== null && board !== null) board.setPort(feed.status.value);
    });
    window.addEventListener("pagehide", () => {
      this.feed.peek()?.finishHead();
      this.board.peek()?.leave();
    });
  }

  /** Load the boards and the ports that this browser knows. */
  async refresh(): Promise<void> {
    if (serialProblem() !== null) return;
    try {
      const database = await this.openDatabase();
      [this.records.value, this.ports.value] = await Promise.all([database.boards(), grantedPorts()]);
      this.problem.value = null;
    } catch (error) {
      this.problem.value = `The browser does not store data for this page: ${errorText(error)}`;
    }
  }

  /** Continue a board that streamed when the page was left. */
  async resumeOpenBoard(): Promise<void> {
    const open = openBoards();
    if (open.length === 0 || serialProblem() !== null) return;
    await this.refresh();
    for (const record of this.records.value.filter(({ device }) => open.includes(device))) {
      try {
        await this.resume(record);
        return;
      } catch (error) {
        // Another tab runs it; this one can continue another board.
        if (!(error instanceof BoardInUse)) throw error;
      }
    }
  }

  /** Let the person choose a port, and read it. */
  async choose(): Promise<void> {
    const port = await choosePort();
    if (port !== null) await this.read(port);
  }

  /** Read a port. Nothing is stored before the start. */
  async read(port: SerialPort): Promise<void> {
    await this.leaveBoard();
    this.clearLines();
    const feed = new PortFeed(port.getInfo(), this.settings.value, (results, bytes) => this.take(results, bytes));
    this.feed.value = feed;
    feed.read(port);
  }

  /** Change the settings of the port. Throws RulesError. */
  async configure(settings: BoardSettings): Promise<void> {
    const feed = this.feed.peek();
    if (feed !== null) {
      await feed.configure(settings);
      await this.board.peek()?.save({ settings, lines: [] });
      this.clearLines();
    }
    this.settings.value = settings;
  }

  /** Store and stream what is read from now on, with a token for this device. Throws ApiError and BoardInUse. */
  async start(device: string, ownToken: string): Promise<void> {
    const feed = this.feed.peek();
    if (feed === null) return;
    const known = this.records.peek().find((record) => record.device === device);
    const record = known ?? newBoard(device, this.settings.peek(), feed.identity);
    const token = await tokenFor(record, ownToken);
    const board = await this.openBoard(record);
    await board.save({
      ...token,
      settings: this.settings.peek(),
      port: feed.identity,
      lines: feed.lines,
      isStarted: true,
    });
    // Lines that arrive between these two would take the definitions of their metrics with them.
    feed.adopt(board.knownType);
    this.board.value = board;
    board.uplink.open();
    // Otherwise the browser may delete the spool when its disk is full.
    void navigator.storage?.persist?.();
    await this.refresh();
  }

  /** Continue a board of this browser: its port and its stream. Throws BoardInUse. */
  async resume(record: BoardRecord): Promise<void> {
    await this.leaveBoard();
    this.clearLines();
    const board = await this.openBoard(record);
    this.settings.value = record.settings;
    this.board.value = board;
    board.uplink.open();
    if (board.record.isStarted) await this.openFeed(board);
  }

  /** Start a board again that was stopped. */
  async restart(): Promise<void> {
    const board = this.board.peek();
    if (board === null) return;
    await board.save({ isStarted: true });
    setOpen(board.record.device, true);
    await this.feed.peek()?.close();
    await this.openFeed(board);
  }

  /** Stop reading. What is stored is still sent. */
  async stop(): Promise<void> {
    const board = this.board.peek();
    await this.feed.peek()?.stop();
    if (board === null) return;
    await board.settle();
    await board.save({ isStarted: false });
    if (board.waiting === 0) setOpen(board.record.device, false);
  }

  /** Delete a board of this browser with its spool, and revoke its token. Throws ApiError for the token. */
  async forget(record: BoardRecord): Promise<void> {
    if (this.board.peek()?.record.device === record.device) await this.leaveBoard();
    setOpen(record.device, false);
    await (await this.openDatabase()).remove(record.device);
    await this.refresh();
    if (record.tokenId !== "") await revokeToken(record.tokenId);
  }

  /** Release the port and the board. The spool stays in the browser, and is sent when the board is resumed. */
  async leaveBoard(): Promise<void> {
    const [feed, board] = [this.feed.peek(), this.board.peek()];
    await feed?.close();
    this.feed.value = null;
    await board?.close();
    this.board.value = null;
  }

  /** Open the granted port of a board, or wait for it. */
  private async openFeed(board: Board): Promise<void> {
    const { port, settings, lines } = board.record;
    const take = (results: readonly LineResult[], bytes: Uint8Array) => this.take(results, bytes);
    const feed = new PortFeed(port, settings, take, board.knownType, lines);
    this.feed.value = feed;
    await feed.resume();
  }

  private async openBoard(record: BoardRecord): Promise<Board> {
    const board = await Board.open(
      await this.openDatabase(),
      record,
      webSocketUrl(hubUrl(window.location), "/v1/device"),
    );
    if (board === null) throw new BoardInUse(record.device);
    setOpen(record.device, true);
    return board;
  }

  private openDatabase(): Promise<BoardDatabase> {
    this.database ??= BoardDatabase.open();
    return this.database;
  }

  private async take(results: readonly LineResult[], bytes: Uint8Array): Promise<void> {
    this.log.add(results, bytes);
    this.showTimer ??= setTimeout(() => this.show(), SHOW_EVERY_MS);
    const board = this.board.peek();
    if (board === null || !board.record.isStarted) return;
    board.record.lines = this.feed.peek()?.lines ?? [];
    await board.take(results);
  }

  private show(): void {
    this.showTimer = undefined;
    this.lines.value = this.log.shown;
    this.totals.value = this.log.totals;
    this.isNoise.value = this.log.isNoise;
  }

  private clearLines(): void {
    this.log = new LineLog();
    this.show();
  }
}

/** Return the token of a board: the one that it has, the given one, or a new one for this device. Throws ApiError. */
async function tokenFor(record: BoardRecord, own: string): Promise<Pick<BoardRecord, "token" | "tokenId">> {
  if (own !== "") return { token: own, tokenId: "" };
  if (record.token !== "") return { token: record.token, tokenId: record.tokenId };
  const { id, token } = await createToken({ role: "device", device: record.device, label: "Board in a browser" });
  return { token, tokenId: id };
}

function openBoards(): string[] {
  try {
    const saved: unknown = JSON.parse(localStorage.getItem(OPEN_BOARDS) ?? "[]");
    return Array.isArray(saved) ? saved.filter((device) => typeof device === "string") : [];
  } catch {
    return [];
  }
}

function setOpen(device: string, isOpen: boolean): void {
  const others = openBoards().filter((known) => known !== device);
  try {
    localStorage.setItem(OPEN_BOARDS, JSON.stringify(isOpen ? [...others, device] : others));
  } catch {
    // Without storage the board does not continue by itself after a reload.
  }
}

export const boardTab = new BoardTab();
