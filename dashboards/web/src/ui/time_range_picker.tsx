/** Time range picker: ranges that follow the clock, and the fixed range after a gesture. */

import type { Signal } from "@preact/signals";
import { DEFAULT_SPAN_MS, RANGES, rangeOfAtLeast, spanOf, type TimeView } from "../chart/time_view";
import { dateTime, duration, now } from "../data/time";
import { Icon } from "./icon";

export function TimeRangePicker({ view }: { view: Signal<TimeView> }) {
  const shown = view.value;
  const live = shown.mode === "live";
  const chosen = RANGES.find((range) => live && range.span_ms === shown.span_ms);
  const choose = (span_ms: number) => {
    view.value = { mode: "live", span_ms };
  };
  const next = rangeOfAtLeast(spanOf(shown)) ?? RANGES[RANGES.length - 1];
  return (
    <div class="time-range row" data-testid="time-range">
      {shown.mode === "fixed" && (
        <span class="fixed-range" data-testid="fixed-range">
          {dateTime(shown.from, now.value)} – {dateTime(shown.to, now.value)}
        </span>
      )}
      {live && chosen === undefined && <span class="fixed-range">Last {duration(shown.span_ms)}</span>}
      <fieldset class="segments box" aria-label="Time range">
        {RANGES.map((range) => (
          <button
            key={range.name}
            type="button"
            aria-pressed={chosen === range}
            data-testid={`range-${range.name}`}
            onClick={() => choose(range.span_ms)}
          >
            {range.label}
          </button>
        ))}
      </fieldset>
      <select
        class="field"
        aria-label="Time range"
        value={chosen?.name ?? ""}
        onChange={(event) => {
          const range = RANGES.find(({ name }) => name === event.currentTarget.value);
          choose(range?.span_ms ?? DEFAULT_SPAN_MS);
        }}
      >
        {chosen === undefined && <option value="">Custom</option>}
        {RANGES.map((range) => (
          <option key={range.name} value={range.name}>
            {range.label}
          </option>
        ))}
      </select>
      <button
        type="button"
        class="button follow"
        aria-pressed={live}
        data-testid="follow"
        aria-label="Follow"
        title={live ? "The charts follow the newest readings" : "Show the newest readings"}
        onClick={() => choose(chosen?.span_ms ?? next.span_ms)}
      >
        <Icon name="follow" />
        <span class="word">Follow</span>
      </button>
    </div>
  );
}
