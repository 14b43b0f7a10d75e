/**
 * State shared by the charts of a page (time view, pointer, data) and one animation frame for all of them. A
 * budget spreads the drawing over several frames, so that a page with many charts stays fluent.
 */

import { type Signal, signal } from "@preact/signals";
import type { Feed } from "../data/feed";
import type { HistoryWindow } from "../data/history_window";
import { hubNow, type TimeRange } from "../data/time";
import type { Restart } from "./intervals";
import { themeVersion } from "./theme_colours";
import { type TimeView, timeRangeOf } from "./time_view";

/** Space right of the live edge for the live dots. */
export const EDGE_PX = 8;
/** Changes within this time are drawn in the next frame. */
const SOON_MS = 24;
/** Time for drawing per frame; the browser needs the rest of the 16 ms. */
const BUDGET_MS = 6;
/** Elements this close to the window are updated as well, so that scrolling shows no old drawing. */
const NEAR_WINDOW = "160px";

export class FrameBudget {
  private readonly until: number;
  private first = true;
  constructor(now: number) {
    this.until = now + BUDGET_MS;
  }
  /** Return whether another drawing fits in this frame. The first one always does. */
  allow(): boolean {
    const allowed = this.first || performance.now() < this.until;
    this.first = false;
    return allowed;
  }
}

export interface Animated {
  /** Update what is shown. Return the milliseconds until it changes without new data. */
  frame(timeRange: TimeRange, budget: FrameBudget): number;
}

/** Pointer position as a fraction of the chart width: the same time on all charts. */
interface Pointer {
  fraction: number;
  source: object;
}

export class FrameScheduler {
  readonly view: Signal<TimeView>;
  readonly window: HistoryWindow;
  feed: Feed;
  pointer: Pointer | null = null;
  /** Offset of the device's clock from the hub's: the newest readings carry the device's time. */
  clockAhead_ms = 0;
  /** When the device went offline, by the clock of its readings; null while it is connected. */
  offlineSince: number | null = null;
  /** Restarts of the device's board, by the clock of its readings. */
  restarts: readonly Restart[] = [];
  readonly device: string;
  /** Counts changes of the list of series. */
  readonly seriesVersion = signal(0);
  /** Charts and timelines in or near the browser window. */
  private readonly animations = new Set<Animated>();
  private readonly stopObservingTheme: () => void;
  private firstIndex = 0;
  private scheduled = 0;
  private timer = 0;

  constructor(device: string, view: Signal<TimeView>, feed: Feed, window: HistoryWindow) {
    this.device = device;
    this.view = view;
    this.feed = feed;
    this.window = window;
    window.onChange = () => this.requestFrame();
    document.addEventListener("visibilitychange", this.requestFrame);
    this.stopObservingTheme = themeVersion.subscribe(this.requestFrame);
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.requestFrame);
    this.stopObservingTheme();
    cancelAnimationFrame(this.scheduled);
    clearTimeout(this.timer);
    this.animations.clear();
  }

  /** Update `animated` while its element is in or near the window. Return the function that ends it. */
  add(animated: Animated, element: Element): () => void {
    const observer = new IntersectionObserver(
      ([{ isIntersecting }]) => {
        if (isIntersecting) this.animations.add(animated);
        else this.animations.delete(animated);
        this.requestFrame();
      },
      { rootMargin: NEAR_WINDOW },
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      this.animations.delete(animated);
    };
  }

  now(): number {
    return hubNow() + this.clockAhead_ms;
  }

  timeRange(): TimeRange {
    return timeRangeOf(this.view.peek(), this.now());
  }

  setPointer(pointer: Pointer | null): void {
    this.pointer = pointer;
    this.requestFrame();
  }

  /** Request a frame. A hidden page draws nothing. */
  readonly requestFrame = (): void => {
    if (this.scheduled === 0 && document.visibilityState === "visible")
      this.scheduled = requestAnimationFrame(this.tick);
  };

  /** Schedule the next frame. Between two pixels nothing moves, so a frame would be wasted. */
  private scheduleFrame(wait_ms: number): void {
    clearTimeout(this.timer);
    if (wait_ms < SOON_MS) this.requestFrame();
    else if (wait_ms < Number.POSITIVE_INFINITY)
      this.timer = window.setTimeout(this.requestFrame, wait_ms - SOON_MS / 2);
  }

  private readonly tick = (): void => {
    this.scheduled = 0;
    const budget = new FrameBudget(performance.now());
    const timeRange = this.timeRange();
    const animations = [...this.animations];
    let wait_ms = Number.POSITIVE_INFINITY;
    // Each frame starts with another chart, so that all charts share a small budget.
    this.firstIndex = animations.length > 0 ? (this.firstIndex + 1) % animations.length : 0;
    for (let i = 0; i < animations.length; i++)
      wait_ms = Math.min(wait_ms, animations[(this.firstIndex + i) % animations.length].frame(timeRange, budget));
    if (this.view.peek().mode === "live") this.window.clear();
    this.scheduleFrame(wait_ms);
  };
}
