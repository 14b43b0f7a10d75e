/** Colours of the style sheet resolved for a canvas in the current theme. */

import { signal } from "@preact/signals";
import type { MetricHead } from "../data/metrics";

interface ThemeColours {
  series: string[];
  grid: string;
  axis: string;
  hatch: string;
  surface: string;
  text: string;
}

export const CANVAS_FONT = '"Inter Variable", system-ui, sans-serif';
export const SERIES_COLOURS = 8;

/** Return a series colour as a value for a style. Colours repeat after the last one. */
export function seriesColour(colour: number): string {
  return `var(--series-${(colour % SERIES_COLOURS) + 1})`;
}

let resolved: ThemeColours | null = null;
/** Counts changes of the colours, including those of the system's theme; older drawings are drawn again. */
export const themeVersion = signal(0);

let remPx = 0;

/** Return the pixels of one rem: drawings scale with the text. */
export function rem(): number {
  if (remPx === 0) remPx = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
  return remPx;
}

/** Discard the resolved colours after a theme change. */
export function resetThemeColours(): void {
  resolved = null;
  remPx = 0;
  themeVersion.value = themeVersion.peek() + 1;
}

export function themeColours(): ThemeColours {
  if (resolved === null) {
    const probe = document.createElement("span");
    document.body.append(probe);
    const read = (token: string): string => {
      probe.style.color = `var(--${token})`;
      return getComputedStyle(probe).color;
    };
    resolved = {
      series: Array.from({ length: SERIES_COLOURS }, (_, index) => read(`series-${index + 1}`)),
      grid: read("chart-grid"),
      axis: read("text-muted"),
      hatch: read("chart-hatch"),
      surface: read("surface"),
      text: read("text"),
    };
    probe.remove();
  }
  return resolved;
}

/** Return the colour of a state, by its position in the list of texts. On and off have the same colours on every page. */
export function stateColour(type: MetricHead["type"], value: number): string {
  const { series, axis } = themeColours();
  if (isOff(type, value)) return axis;
  return series[type === "boolean" ? 0 : value % SERIES_COLOURS];
}

/** Return whether a state is drawn with less weight. */
export function isOff(type: MetricHead["type"], value: number): boolean {
  return type === "boolean" && value === 0;
}

/** Return a colour with an opacity. */
export function withAlpha(colour: string, alpha: number): string {
  return `color-mix(in oklab, ${colour} ${alpha * 100}%, transparent)`;
}
