/** Gestures on a chart: drag, pinch, wheel and keys move through time; the pointer moves the crosshair. */

import { EDGE_PX, type FrameScheduler } from "./frame_scheduler";
import { DEFAULT_SPAN_MS, pan, RANGES, spanOf, type TimeView, timeRangeOf, zoom } from "./time_view";

/** A press that moves less than this is a click. */
const CLICK_PX = 4;
/** Zoom factor of one wheel notch. */
const NOTCH = 1.2;
const NOTCH_PX = 100;
const KEY_PAN = 0.2;

/** Attach the gestures to a chart's viewport. Return the function that detaches them. `source` is the chart. */
export function attachGestures(viewport: HTMLElement, scheduler: FrameScheduler, source: object): () => void {
  const { view } = scheduler;
  const pointers = new Map<number, { x: number; start: number }>();
  let origin: TimeView | null = null;
  let dragging = false;

  const width = () => Math.max(1, viewport.clientWidth - EDGE_PX);
  const partOf = (clientX: number) =>
    Math.min(1, Math.max(0, (clientX - viewport.getBoundingClientRect().left) / width()));
  const set = (next: TimeView) => {
    view.value = next;
    scheduler.requestFrame();
  };

  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, { x: event.clientX, start: event.clientX });
    origin = view.peek();
    for (const pointer of pointers.values()) pointer.start = pointer.x;
  };

  const onPointerMove = (event: PointerEvent) => {
    const pointer = pointers.get(event.pointerId);
    if (pointer === undefined) {
      scheduler.setPointer({ fraction: partOf(event.clientX), source });
      return;
    }
    pointer.x = event.clientX;
    if (!dragging && Math.abs(pointer.x - pointer.start) > CLICK_PX) {
      dragging = true;
      viewport.classList.add("dragging");
      viewport.setPointerCapture(event.pointerId);
      origin = view.peek();
      for (const other of pointers.values()) other.start = other.x;
    }
    if (!dragging || origin === null) return;
    const all = [...pointers.values()];
    if (all.length >= 2) pinch(all[0], all[1]);
    else set(pan(origin, scheduler.now(), (pointer.start - pointer.x) / width()));
    scheduler.setPointer({ fraction: partOf(event.clientX), source });
  };

  const pinch = (a: { x: number; start: number }, b: { x: number; start: number }) => {
    if (origin === null) return;
    const before = Math.max(20, Math.abs(a.start - b.start));
    const after = Math.max(20, Math.abs(a.x - b.x));
    set(zoom(origin, scheduler.now(), before / after, partOf((a.start + b.start) / 2)));
  };

  const onPointerEnd = (event: PointerEvent) => {
    pointers.delete(event.pointerId);
    origin = view.peek();
    for (const pointer of pointers.values()) pointer.start = pointer.x;
    if (pointers.size > 0) return;
    if (!dragging && event.type === "pointerup")
      scheduler.setPointer({ fraction: partOf(event.clientX), source });
    dragging = false;
    viewport.classList.remove("dragging");
    if (event.type === "pointercancel") scheduler.setPointer(null);
  };

  const onPointerLeave = (event: PointerEvent) => {
    if (event.pointerType === "mouse" && !dragging) scheduler.setPointer(null);
  };

  const onWheel = (event: WheelEvent) => {
    // Horizontal scrolling moves through time. Vertical scrolling scrolls the page, unless Ctrl is held (touchpad
    // pinch) or
    // the chart has the focus: a page full of charts must not capture every scroll.
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways || event.shiftKey) {
      event.preventDefault();
      set(pan(view.peek(), scheduler.now(), (sideways ? event.deltaX : event.deltaY) / width()));
      return;
    }
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== viewport) return;
    event.preventDefault();
    const notches =
      (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 33 : event.deltaY) / NOTCH_PX;
    const factor = NOTCH ** Math.max(-3, Math.min(3, event.ctrlKey ? notches * 2 : notches));
    set(zoom(view.peek(), scheduler.now(), factor, partOf(event.clientX)));
  };

  const toLive = () => {
    const span = spanOf(view.peek());
    const range = RANGES.find((offered) => offered.span_ms >= span * 0.999);
    set({ mode: "live", span_ms: view.peek().mode === "live" ? DEFAULT_SPAN_MS : (range?.span_ms ?? span) });
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const now = scheduler.now();
    const keys: Record<string, () => void> = {
      ArrowLeft: () => set(pan(view.peek(), now, -KEY_PAN)),
      ArrowRight: () => set(pan(view.peek(), now, KEY_PAN)),
      "+": () => set(zoom(view.peek(), now, 1 / 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      "=": () => set(zoom(view.peek(), now, 1 / 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      "-": () => set(zoom(view.peek(), now, 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      End: toLive,
      Home: () => {
        const { from, to } = timeRangeOf(view.peek(), now);
        set({ mode: "fixed", from: from - (to - from), to: from });
      },
      Escape: () => viewport.blur(),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  };

  viewport.addEventListener("pointerdown", onPointerDown);
  viewport.addEventListener("pointermove", onPointerMove);
  viewport.addEventListener("pointerup", onPointerEnd);
  viewport.addEventListener("pointercancel", onPointerEnd);
  viewport.addEventListener("pointerleave", onPointerLeave);
  viewport.addEventListener("wheel", onWheel, { passive: false });
  viewport.addEventListener("dblclick", toLive);
  viewport.addEventListener("keydown", onKeyDown);
  return () => {
    viewport.removeEventListener("pointerdown", onPointerDown);
    viewport.removeEventListener("pointermove", onPointerMove);
    viewport.removeEventListener("pointerup", onPointerEnd);
    viewport.removeEventListener("pointercancel", onPointerEnd);
    viewport.removeEventListener("pointerleave", onPointerLeave);
    viewport.removeEventListener("wheel", onWheel);
    viewport.removeEventListener("dblclick", toLive);
    viewport.removeEventListener("keydown", onKeyDown);
  };
}
