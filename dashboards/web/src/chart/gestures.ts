/** Gestures on a chart: drag, pinch, wheel and keys move through time; the pointer moves the crosshair. */

import { EDGE_PX, type FrameScheduler } from "./frame_scheduler";
import { DEFAULT_SPAN_MS, pan, rangeOfAtLeast, spanOf, type TimeView, timeRangeOf, zoom } from "./time_view";

/** A press that moves less than this is a click. */
const CLICK_PX = 4;
/** Zoom factor of one wheel notch. */
const NOTCH = 1.2;
const NOTCH_PX = 100;
/** Height of one line for wheels that report lines. */
const LINE_PX = 33;
const KEY_PAN = 0.2;
const KEY_ZOOM = 1.5;
const MIN_PINCH_PX = 20;

/** Attach the gestures to a chart's viewport. Return the function that detaches them. `source` is the chart. */
export function attachGestures(viewport: HTMLElement, scheduler: FrameScheduler, source: object): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const move = new TimeMover(viewport, scheduler);
  attachPointer(move, source, signal);
  viewport.addEventListener("wheel", (event) => onWheel(event, move), { passive: false, signal });
  viewport.addEventListener("dblclick", () => move.toLive(), { signal });
  viewport.addEventListener("keydown", (event) => onKeyDown(event, move), { signal });
  return () => controller.abort();
}

/** Changes the time view for positions on one viewport. */
class TimeMover {
  readonly viewport: HTMLElement;
  readonly scheduler: FrameScheduler;

  constructor(viewport: HTMLElement, scheduler: FrameScheduler) {
    this.viewport = viewport;
    this.scheduler = scheduler;
  }

  get view(): TimeView {
    return this.scheduler.view.peek();
  }

  get width(): number {
    return Math.max(1, this.viewport.clientWidth - EDGE_PX);
  }

  /** Return a horizontal position as a fraction of the width. */
  fractionOf(clientX: number): number {
    return Math.min(1, Math.max(0, (clientX - this.viewport.getBoundingClientRect().left) / this.width));
  }

  set(view: TimeView): void {
    this.scheduler.view.value = view;
    this.scheduler.requestFrame();
  }

  pan(fraction: number, from = this.view): void {
    this.set(pan(from, this.scheduler.now(), fraction));
  }

  zoom(factor: number, anchor: number, from = this.view): void {
    this.set(zoom(from, this.scheduler.now(), factor, anchor));
  }

  /** Follow the newest readings in the next larger range, or in the default range if the view is live already. */
  toLive(): void {
    const span = spanOf(this.view);
    const span_ms = this.view.mode === "live" ? DEFAULT_SPAN_MS : (rangeOfAtLeast(span)?.span_ms ?? span);
    this.set({ mode: "live", span_ms });
  }

  toPrevious(): void {
    const { from, to } = timeRangeOf(this.view, this.scheduler.now());
    this.set({ mode: "fixed", from: from - (to - from), to: from });
  }
}

/** Drags and pinches of one viewport. One pressed pointer pans, two zoom. */
class Drag {
  active = false;
  private readonly pressed = new Map<number, { x: number; start: number }>();
  private readonly move: TimeMover;
  private origin: TimeView;

  constructor(move: TimeMover) {
    this.move = move;
    this.origin = move.view;
  }

  press(event: PointerEvent): void {
    this.pressed.set(event.pointerId, { x: event.clientX, start: event.clientX });
    this.restart();
  }

  /** Follow a pointer. Return false if it is pressed but has not moved enough for a drag. */
  follow(event: PointerEvent): boolean {
    const pointer = this.pressed.get(event.pointerId);
    if (pointer === undefined) return true;
    pointer.x = event.clientX;
    if (!this.active && Math.abs(pointer.x - pointer.start) > CLICK_PX) {
      this.active = true;
      this.restart();
    }
    if (this.active) this.apply();
    return this.active;
  }

  /** Return whether the last pointer was released. */
  release(event: PointerEvent): boolean {
    this.pressed.delete(event.pointerId);
    this.restart();
    return this.pressed.size === 0;
  }

  private restart(): void {
    this.origin = this.move.view;
    for (const pointer of this.pressed.values()) pointer.start = pointer.x;
  }

  private apply(): void {
    const { move, origin } = this;
    const [first, second] = this.pressed.values();
    if (second === undefined) {
      move.pan((first.start - first.x) / move.width, origin);
      return;
    }
    const before = Math.max(MIN_PINCH_PX, Math.abs(first.start - second.start));
    const after = Math.max(MIN_PINCH_PX, Math.abs(first.x - second.x));
    move.zoom(before / after, move.fractionOf((first.start + second.start) / 2), origin);
  }
}

function attachPointer(move: TimeMover, source: object, signal: AbortSignal): void {
  const { viewport, scheduler } = move;
  const drag = new Drag(move);
  const point = (event: PointerEvent) => scheduler.setPointer({ fraction: move.fractionOf(event.clientX), source });
  const onDown = (event: PointerEvent) => {
    if (event.button === 0) drag.press(event);
  };
  const onMove = (event: PointerEvent) => {
    const wasActive = drag.active;
    const moved = drag.follow(event);
    if (drag.active && !wasActive) {
      viewport.classList.add("dragging");
      viewport.setPointerCapture(event.pointerId);
    }
    if (moved) point(event);
  };
  const onEnd = (event: PointerEvent) => {
    if (!drag.release(event)) return;
    if (!drag.active && event.type === "pointerup") point(event);
    drag.active = false;
    viewport.classList.remove("dragging");
    if (event.type === "pointercancel") scheduler.setPointer(null);
  };
  const onLeave = (event: PointerEvent) => {
    if (event.pointerType === "mouse" && !drag.active) scheduler.setPointer(null);
  };
  viewport.addEventListener("pointerdown", onDown, { signal });
  viewport.addEventListener("pointermove", onMove, { signal });
  viewport.addEventListener("pointerup", onEnd, { signal });
  viewport.addEventListener("pointercancel", onEnd, { signal });
  viewport.addEventListener("pointerleave", onLeave, { signal });
}

function onWheel(event: WheelEvent, move: TimeMover): void {
  // Horizontal scrolling moves through time. Vertical scrolling scrolls the page, unless Ctrl is held (touchpad
  // pinch) or the chart has the focus: a page full of charts must not capture every scroll.
  const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
  const pans = sideways || event.shiftKey;
  if (!pans && !event.ctrlKey && !event.metaKey && document.activeElement !== move.viewport) return;
  event.preventDefault();
  if (pans) {
    move.pan((sideways ? event.deltaX : event.deltaY) / move.width);
    return;
  }
  const delta = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * LINE_PX : event.deltaY;
  const notches = (event.ctrlKey ? 2 : 1) * (delta / NOTCH_PX);
  move.zoom(NOTCH ** Math.max(-3, Math.min(3, notches)), move.fractionOf(event.clientX));
}

function onKeyDown(event: KeyboardEvent, move: TimeMover): void {
  const zoomBy = (factor: number) => move.zoom(factor, move.view.mode === "live" ? 1 : 0.5);
  const keys: Record<string, () => void> = {
    ArrowLeft: () => move.pan(-KEY_PAN),
    ArrowRight: () => move.pan(KEY_PAN),
    "+": () => zoomBy(1 / KEY_ZOOM),
    "=": () => zoomBy(1 / KEY_ZOOM),
    "-": () => zoomBy(KEY_ZOOM),
    End: () => move.toLive(),
    Home: () => move.toPrevious(),
    Escape: () => move.viewport.blur(),
  };
  const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
}
