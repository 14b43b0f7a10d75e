/** Which rows of a long list exist in the page: those that can be seen, and some around them. */

export interface VirtualWindow {
  first: number;
  /** One after the last. */
  end: number;
  /** Height of the whole list, in pixels. */
  height: number;
}

/** Rows beyond each edge, so that scrolling finds them drawn. */
export const OVERSCAN = 6;

export function virtualWindow(
  count: number,
  rowHeight: number,
  scrollTop: number,
  viewHeight: number,
  overscan = OVERSCAN,
): VirtualWindow {
  const first = Math.min(count, Math.max(0, Math.floor(scrollTop / rowHeight) - overscan));
  const end = Math.max(first, Math.min(count, Math.ceil((scrollTop + viewHeight) / rowHeight) + overscan));
  return { first, end, height: count * rowHeight };
}
