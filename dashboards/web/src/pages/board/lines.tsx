/** Lines of a board as they arrive, with what each became. */

import { useEffect, useRef } from "preact/hooks";
import type { PortFeed } from "../../agent/port_feed";
import type { ShownLine } from "../../data/board_lines";
import { BOARD_FORMATS, boardTab } from "../../data/boards";
import { count } from "../../data/number_format";
import { Icon } from "../../ui/icon";
import { asSentence } from "../../ui/status_text";

/** Distance from the end, in pixels, at which the list still follows the newest line. */
const NEAR_END = 24;

const formatName = (format: string) => BOARD_FORMATS.find(([value]) => value === format)?.[1] ?? format;

export function LinesPanel({ feed }: { feed: PortFeed | null }) {
  const lines = boardTab.lines.value;
  const totals = boardTab.totals.value;
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    const area = list.current;
    if (area !== null && follows.current) area.scrollTop = area.scrollHeight;
  }, [lines]);
  const detection = feed?.detection ?? null;
  return (
    <section class="box board-lines" aria-label="Lines">
      <header class="board-part">
        <h2>{detection === null ? "Lines" : `Lines: ${detection.unread || formatName(detection.format)}`}</h2>
        <p class="note">
          {feed === null
            ? "The lines of the port appear here, with what they become."
            : detection === null
              ? "The format is decided by the first lines."
              : asSentence(detection.reason)}
        </p>
        <p class="try-counts row">
          <span>
            <b data-testid="lines">{count(totals.lines)}</b> lines
          </span>
          <span>
            <b data-testid="readings">{count(totals.readings)}</b> readings
          </span>
          {totals.skipped > 0 && (
            <span>
              <b>{count(totals.skipped)}</b> skipped: it may be the rest of a line
            </span>
          )}
          <span class={totals.refused > 0 ? "try-refused" : ""}>
            {totals.refused > 0 && <Icon name="warning" />}
            <b data-testid="refused">{totals.refused > 0 ? count(totals.refused) : "Nothing"}</b> refused
          </span>
        </p>
      </header>
      {lines.length > 0 && (
        <ol
          class="board-log"
          ref={list}
          tabIndex={0}
          aria-label="Newest lines"
          onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
            follows.current = scrollHeight - scrollTop - clientHeight < NEAR_END;
          }}
        >
          {lines.map((line) => (
            <Line key={line.key} line={line} />
          ))}
        </ol>
      )}
    </section>
  );
}

function Line({ line }: { line: ShownLine }) {
  return (
    <li data-testid="line">
      <pre class="mono ellipsis" title={line.text}>
        {line.text || " "}
      </pre>
      <p class="board-values">
        {line.values.map(({ metric, value, unit }) => (
          <span key={metric}>
            {metric} <b>{value}</b>
            {unit !== "" && <span class="unit">{unit}</span>}
          </span>
        ))}
        {line.isSkipped && <span class="muted">skipped: it may be the rest of a line</span>}
        {!line.isSkipped && line.values.length + line.refusals.length === 0 && <span class="muted">no reading</span>}
      </p>
      {line.refusals.map(({ metric, reason, setting }) => (
        <p class="board-refusal row" key={`${metric} ${reason}`}>
          <Icon name="warning" />
          <span>
            {metric !== "" && <span class="mono">{metric}: </span>}
            {reason}
            {setting !== "" && (
              <>
                {" "}
                (<code>{setting}</code>)
              </>
            )}
          </span>
        </p>
      ))}
    </li>
  );
}
