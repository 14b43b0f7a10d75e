/** How people move through time on a chart: drag, pinch, wheel, keys; and where their pointer is. */

import { type Conductor, EDGE_PX } from "./conductor";
import { DEFAULT_SPAN_MS, pan, RANGES, spanOf, stretchOf, type View, zoom } from "./view";

/** A press that moves less than this is a click. */
const CLICK_PX = 4;
/** Span factor of one notch of a wheel. */
const NOTCH = 1.2;
const NOTCH_PX = 100;
const KEY_PAN = 0.2;

/** Attaches all gestures to a chart's viewport; returns what detaches them. `source` is the chart. */
export function attachGestures(viewport: HTMLElement, conductor: Conductor, source: object): () => void {
  const { view } = conductor;
  const pointers = new Map<number, { x: number; start: number }>();
  let origin: View | null = null;
  let dragging = false;

  const width = () => Math.max(1, viewport.clientWidth - EDGE_PX);
  const partOf = (clientX: number) =>
    Math.min(1, Math.max(0, (clientX - viewport.getBoundingClientRect().left) / width()));
  const set = (next: View) => {
    view.value = next;
    conductor.request();
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
      conductor.point({ part: partOf(event.clientX), source });
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
    else set(pan(origin, conductor.now(), (pointer.start - pointer.x) / width()));
    conductor.point({ part: partOf(event.clientX), source });
  };

  const pinch = (a: { x: number; start: number }, b: { x: number; start: number }) => {
    if (origin === null) return;
    const before = Math.max(20, Math.abs(a.start - b.start));
    const after = Math.max(20, Math.abs(a.x - b.x));
    set(zoom(origin, conductor.now(), before / after, partOf((a.start + b.start) / 2)));
  };

  const onPointerEnd = (event: PointerEvent) => {
    pointers.delete(event.pointerId);
    origin = view.peek();
    for (const pointer of pointers.values()) pointer.start = pointer.x;
    if (pointers.size > 0) return;
    if (!dragging && event.type === "pointerup") conductor.point({ part: partOf(event.clientX), source });
    dragging = false;
    viewport.classList.remove("dragging");
    if (event.type === "pointercancel") conductor.point(null);
  };

  const onPointerLeave = (event: PointerEvent) => {
    if (event.pointerType === "mouse" && !dragging) conductor.point(null);
  };

  const onWheel = (event: WheelEvent) => {
    // Sideways moves through time. Up and down scrolls the page, unless Ctrl is held (a pinch on a touchpad says the
    // same) or this chart was clicked: a page full of charts must not catch every scroll.
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (sideways || event.shiftKey) {
      event.preventDefault();
      set(pan(view.peek(), conductor.now(), (sideways ? event.deltaX : event.deltaY) / width()));
      return;
    }
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== viewport) return;
    event.preventDefault();
    const notches =
      (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 33 : event.deltaY) / NOTCH_PX;
    const factor = NOTCH ** Math.max(-3, Math.min(3, event.ctrlKey ? notches * 2 : notches));
    set(zoom(view.peek(), conductor.now(), factor, partOf(event.clientX)));
  };

  const toLive = () => {
    const span = spanOf(view.peek());
    const range = RANGES.find((offered) => offered.span_ms >= span * 0.999);
    set({ mode: "live", span_ms: view.peek().mode === "live" ? DEFAULT_SPAN_MS : (range?.span_ms ?? span) });
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const now = conductor.now();
    const keys: Record<string, () => void> = {
      ArrowLeft: () => set(pan(view.peek(), now, -KEY_PAN)),
      ArrowRight: () => set(pan(view.peek(), now, KEY_PAN)),
      "+": () => set(zoom(view.peek(), now, 1 / 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      "=": () => set(zoom(view.peek(), now, 1 / 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      "-": () => set(zoom(view.peek(), now, 1.5, view.peek().mode === "live" ? 1 : 0.5)),
      End: toLive,
      Home: () => {
        const { from, to } = stretchOf(view.peek(), now);
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
