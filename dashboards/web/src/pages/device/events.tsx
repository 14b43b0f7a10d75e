/** What happened to the device, newest first; and its tags. */

import type { DeviceEvent } from "../../data/api";
import { moment } from "../../data/time_format";
import { now } from "../../ui/tick";

export function Events({ events }: { events: DeviceEvent[] }) {
  return (
    <section class="panel" data-testid="events">
      <h2>Recent events</h2>
      {events.length === 0 ? (
        <p class="empty-note">Nothing has happened yet besides readings.</p>
      ) : (
        <ol class="events" tabIndex={0} aria-label="Recent events">
          {events.map((event, index) => (
            <li class="event" key={`${event.time_ns} ${index}`}>
              <time dateTime={new Date(event.time_ns / 1e6).toISOString()}>
                {moment(event.time_ns / 1e6, now.value)}
              </time>
              <span>{sentence(event.kind)}</span>
              <span class="detail">{event.detail}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function sentence(kind: string): string {
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}

export function Tags({ tags }: { tags: Record<string, string> }) {
  const entries = Object.entries(tags);
  return (
    <section class="panel" data-testid="tags">
      <h2>Tags</h2>
      {entries.length === 0 ? (
        <p class="empty-note">This device has no tags. Its agent sends them when it connects.</p>
      ) : (
        <dl class="tag-list">
          {entries.map(([key, value]) => [
            <dt key={`${key}-name`}>{key}</dt>,
            <dd class="mono" key={`${key}-value`}>
              {value}
            </dd>,
          ])}
        </dl>
      )}
    </section>
  );
}
