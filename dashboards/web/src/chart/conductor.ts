/**
 * What the charts of one page share: the view, the pointer's time, the data, and one animation frame for all of them. Drawing is
 * spread over frames by a budget, so that a page with many charts never stops moving.
 */

import { type Signal, signal } from "@preact/signals";
import type { Feed } from "../data/feed";
import type { HistoryWindow } from "../data/history_window";
import { hubNow } from "../data/hub_clock";
import type { Stretch } from "../data/stretch";
import { stretchOf, type View } from "./view";

/** Room right of the live edge, for the dots that stand on it. */
export const EDGE_PX = 8;
/** What changes this soon is for the next frame. */
const SOON_MS = 24;
/** Drawing done in one frame; the rest of its 16 ms is the browser's own. */
const BUDGET_MS = 6;

export class Budget {
  private readonly until: number;
  private first = true;
  constructor(now: number) {
    this.until = now + BUDGET_MS;
  }
  /** Whether one more drawing may be done in this frame; the first always may. */
  take(): boolean {
    const allowed = this.first || performance.now() < this.until;
    this.first = false;
    return allowed;
  }
}

export interface Player {
  /** Whether any of it can be seen. */
  visible: boolean;
  /** Brings what is shown up to now; returns in how many milliseconds it next changes by itself. */
  frame(stretch: Stretch, budget: Budget): number;
}

/** Where the pointer is, as a part of every chart's width: the same time on all of them. */
export interface Pointer {
  part: number;
  source: object;
}

export class Conductor {
  readonly view: Signal<View>;
  readonly window: HistoryWindow;
  feed: Feed;
  pointer: Pointer | null = null;
  /** How far the device's clock is ahead of the hub's: the live edge is where its newest readings are. */
  ahead_ms = 0;
  readonly device: string;
  readonly changed = signal(0);
  private readonly players = new Set<Player>();
  private turn = 0;
  private scheduled = 0;
  private timer = 0;

  constructor(device: string, view: Signal<View>, feed: Feed, window: HistoryWindow) {
    this.device = device;
    this.view = view;
    this.feed = feed;
    this.window = window;
    window.onChange = () => this.request();
    document.addEventListener("visibilitychange", this.request);
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.request);
    cancelAnimationFrame(this.scheduled);
    clearTimeout(this.timer);
    this.players.clear();
  }

  add(player: Player): () => void {
    this.players.add(player);
    this.request();
    return () => this.players.delete(player);
  }

  now(): number {
    return hubNow() + this.ahead_ms;
  }

  stretch(): Stretch {
    return stretchOf(this.view.peek(), this.now());
  }

  point(pointer: Pointer | null): void {
    this.pointer = pointer;
    this.request();
  }

  /** Asks for a frame. A page that nobody sees draws nothing. */
  readonly request = (): void => {
    if (this.scheduled === 0 && document.visibilityState === "visible")
      this.scheduled = requestAnimationFrame(this.tick);
  };

  /** Between two pixels nothing moves: a frame for nothing would only cost the browser's work for it. */
  private wait(wait_ms: number): void {
    clearTimeout(this.timer);
    if (wait_ms < SOON_MS) this.request();
    else if (wait_ms < Number.POSITIVE_INFINITY)
      this.timer = window.setTimeout(this.request, wait_ms - SOON_MS / 2);
  }

  private readonly tick = (): void => {
    this.scheduled = 0;
    const budget = new Budget(performance.now());
    const stretch = this.stretch();
    const players = [...this.players].filter((player) => player.visible);
    let wait = Number.POSITIVE_INFINITY;
    // Each frame begins with another chart, so that a small budget is shared fairly.
    this.turn = players.length > 0 ? (this.turn + 1) % players.length : 0;
    for (let i = 0; i < players.length; i++)
      wait = Math.min(wait, players[(this.turn + i) % players.length].frame(stretch, budget));
    if (this.view.peek().mode === "live") this.window.rest();
    this.wait(wait);
  };
}
