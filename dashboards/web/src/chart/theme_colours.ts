/** The style sheet's colours as a canvas needs them: resolved for the theme that is shown. */

export interface ThemeColours {
  series: string[];
  grid: string;
  axis: string;
  surface: string;
  text: string;
}

export const SERIES_COLOURS = 8;

/** The style sheet's class for a series of this colour; beyond the last colour they begin again. */
export function seriesClass(colour: number): string {
  return `series-${(colour % SERIES_COLOURS) + 1}`;
}

let resolved: ThemeColours | null = null;
/** Counts theme changes; who drew with an older one draws again. */
export let themeVersion = 0;

let remPx = 0;

/** Pixels of one rem: what is drawn grows with what is written. */
export function rem(): number {
  if (remPx === 0) remPx = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
  return remPx;
}

/** The theme has changed: colours are read anew. */
export function forgetColours(): void {
  resolved = null;
  remPx = 0;
  themeVersion++;
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
      surface: read("surface"),
      text: read("text"),
    };
    probe.remove();
  }
  return resolved;
}

/** The same colour with this opacity. */
export function withAlpha(colour: string, alpha: number): string {
  return `color-mix(in oklab, ${colour} ${alpha * 100}%, transparent)`;
}
