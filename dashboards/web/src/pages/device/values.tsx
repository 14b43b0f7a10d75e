/** The values that matter most, large enough to be read from across a room. */

import { useEffect, useRef } from "preact/hooks";
import type { Budget, Player } from "../../chart/conductor";
import type { MetricInfo } from "../../data/api";
import { leadingMetrics } from "../../data/metrics";
import { newestReading, type ReadingText } from "../../data/reading_text";
import type { Stretch } from "../../data/stretch";
import type { DeviceData } from "./device_data";

const TILES = 6;
/** Longer numbers are set smaller. */
const LONG = 8;
/** Nobody reads a number that changes more often. */
const EVERY_MS = 200;

export function Values({ data, metrics }: { data: DeviceData; metrics: MetricInfo[] }) {
  return (
    <div class="values" data-testid="values">
      {leadingMetrics(metrics, TILES).map((head) => (
        <ValueTile key={head.metric} data={data} head={head} />
      ))}
    </div>
  );
}

function ValueTile({ data, head }: { data: DeviceData; head: MetricInfo }) {
  const big = useRef<HTMLParagraphElement>(null);
  const number = useRef<HTMLSpanElement>(null);
  const unit = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let shown = "";
    let at = 0;
    const show = ({ text, unit: unitText }: ReadingText) => {
      if (text === shown || number.current === null || unit.current === null) return;
      shown = text;
      number.current.textContent = text;
      unit.current.textContent = unitText;
      big.current?.classList.toggle("long", text.length + unitText.length / 2 > LONG);
    };
    show(newestReading(head, undefined, data.formats));
    const player: Player = {
      visible: true,
      frame: (_stretch: Stretch, _budget: Budget) => {
        const now = performance.now();
        if (now - at < EVERY_MS) return EVERY_MS - (now - at);
        at = now;
        const buffer = data.conductor.feed.series.get(head.metric)?.buffer;
        // A feed that has none any more, of a shorter span, does not make what is shown older.
        if (buffer !== undefined && buffer.length > 0) show(newestReading(head, buffer, data.formats));
        return Number.POSITIVE_INFINITY;
      },
    };
    return data.conductor.add(player);
  }, [data, head]);
  return (
    <div class="value-tile" data-testid="value" data-metric={head.metric}>
      <p class="label ellipsis" title={head.description || head.metric}>
        {head.metric}
      </p>
      <p class="big number" ref={big}>
        <span ref={number}>–</span>
        <span class="unit" ref={unit} />
      </p>
    </div>
  );
}
