/** Readings of a chart as a table, for exact values and for screen readers. */

import { timeRangeOf } from "../../chart/time_view";
import type { ChartGroup } from "../../data/metrics";
import { formatValue } from "../../data/number_format";
import { lowerBound, upperBound } from "../../data/series_buffer";
import { dateTime, now } from "../../data/time";
import type { DeviceData } from "./device_data";

const ROWS = 100;
/** Maximum number of columns; the CSV file contains all columns and readings. */
const COLUMNS = 12;

export function ChartTable({ data, group }: { data: DeviceData; group: ChartGroup }) {
  const { scheduler } = data;
  const { from, to } = timeRangeOf(scheduler.view.value, now.value + scheduler.clockAhead_ms);
  const columns = group.metrics.slice(0, COLUMNS).map((head) => {
    const { metric } = head;
    const columns = data.columnsOf(metric);
    const first = lowerBound(columns.times, from);
    const end = upperBound(columns.times, to);
    const start = Math.max(first, end - ROWS);
    const rows = Array.from(columns.times.subarray(start, end), (time, i): [number, number] => [
      time,
      columns.values[start + i],
    ]);
    return { metric, format: data.formatOf(head), byTime: new Map(rows) };
  });
  const times = [...new Set(columns.flatMap(({ byTime }) => [...byTime.keys()]))].sort((a, b) => b - a).slice(0, ROWS);
  return (
    <section class="chart-table" tabIndex={0} aria-label="Readings, newest first">
      <table>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {columns.map(({ metric, format }) => (
              <th scope="col" key={metric}>
                {metric}
                {format.unit !== "" && <span class="unit">{format.unit}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {times.map((time) => (
            <tr key={time}>
              <td class="number">{dateTime(time, now.value)}</td>
              {columns.map(({ metric, format, byTime }) => (
                <td class="number" key={metric}>
                  {formatValue(byTime.get(time), format)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
