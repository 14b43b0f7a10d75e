import { beforeEach, describe, expect, it } from "vitest";
import type { Subscriber, SubscriptionListener } from "../../src/connection/live_connection";
import { type Conflated, Feed } from "../../src/data/feed";
import { Kind, type Update } from "../../src/wire/frames";
import type { Series } from "../../src/wire/live";

/** Fake connection: the test sends the messages of the hub. */
class Hub implements Subscriber {
  listener: SubscriptionListener | null = null;
  ended = false;
  subscribe(_asked: object, listener: SubscriptionListener): () => void {
    this.listener = listener;
    return () => {
      this.ended = true;
    };
  }
}

const schema: Series[] = [
  { device: "d", metric: "t" },
  { device: "d", metric: "state", type: "string" },
];

function update(kind: Kind, times: number[], options: Partial<Update> = {}): Update {
  const values = times.map((time) => time * 10);
  const numbers = [{ series: 0, times_ms: Float64Array.from(times), values: Float64Array.from(values) }];
  return { kind, schema: 1, subscription: 1, conflated: 0, offset: 1, numbers, texts: [], ...options };
}

describe("Feed", () => {
  let hub: Hub;
  let feed: Feed;
  const say = () => hub.listener as SubscriptionListener;
  const held = () => Array.from(feed.series.get("t")?.buffer.times ?? []);

  beforeEach(() => {
    hub = new Hub();
    feed = new Feed(hub, {
      device: "d",
      metrics: ["*"],
      policy: "every",
      period_ms: 100,
      span_ms: 60_000,
      points: 1000,
    });
  });

  it("shows the first history while it arrives", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2]), schema);
    expect(held()).toEqual([1, 2]);
    expect(feed.live).toBe(false);
    say().caughtUp();
    expect(feed.live).toBe(true);
  });

  it("keeps the readings of a renamed series and starts one of another kind anew", () => {
    let described = 0;
    feed.onDescribed = () => described++;
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2]), schema);
    say().caughtUp();
    const renamed: Series[] = [{ device: "d", metric: "temperature", unit: "°C" }, schema[1]];
    say().described?.(renamed);
    expect([...feed.series.keys()]).toEqual(["temperature"]);
    expect(Array.from(feed.bufferOf("temperature").times)).toEqual([1, 2]);
    say().update(update(Kind.LIVE, [3]), renamed);
    expect(Array.from(feed.bufferOf("temperature").times)).toEqual([1, 2, 3]);
    expect(feed.series.get("temperature")?.info.unit).toBe("°C");
    say().update(update(Kind.LIVE, [4]), [{ ...renamed[0], type: "boolean" }, schema[1]]);
    expect(Array.from(feed.bufferOf("temperature").times)).toEqual([4]);
    expect(described).toBe(2);
  });

  it("does not compare positions across subscriptions", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1]), schema);
    say().caughtUp();
    say().started("cursor");
    say().update(update(Kind.MISSED, [2], { numbers: [] }), [schema[1], schema[0]]);
    expect([...feed.series.keys()]).toEqual(["t"]);
    expect(held()).toEqual([1]);
  });

  it("resumes after a reconnect with the missed readings", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2]), schema);
    say().caughtUp();
    say().started("cursor");
    say().update(update(Kind.MISSED, [3, 4]), [...schema]);
    expect(held()).toEqual([1, 2, 3, 4]);
  });

  it("keeps the shown readings until new ones are complete", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2, 3]), schema);
    say().caughtUp();
    say().reset("too_old");
    say().started("history");
    say().update(update(Kind.HISTORY, [2, 3]), schema);
    expect(held()).toEqual([1, 2, 3]);
    say().update(update(Kind.MISSED, [4]), schema);
    say().caughtUp();
    expect(held()).toEqual([2, 3, 4]);
  });

  it("starts again when a history is interrupted", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2]), schema);
    say().started("history");
    say().update(update(Kind.HISTORY, [1, 2, 3]), [...schema]);
    say().caughtUp();
    expect(held()).toEqual([1, 2, 3]);
  });

  it("inserts late readings and records their range", () => {
    say().started("history");
    say().caughtUp();
    say().update(update(Kind.LIVE, [100_000, 200_000]), schema);
    say().update(update(Kind.LIVE, [110_000, 111_000]), schema);
    expect(held()).toEqual([100_000, 110_000, 111_000, 200_000]);
    expect(feed.late).toEqual([{ from: 110_000, to: 111_000 }]);
  });

  it("reports the range that the hub summarised", () => {
    const ranges: Conflated[] = [];
    feed.onConflated = (conflated) => ranges.push(conflated);
    say().started("history");
    say().caughtUp();
    say().update(update(Kind.LIVE, [1000]), schema);
    say().update(update(Kind.LIVE, [9000], { conflated: 70 }), schema);
    expect(ranges).toEqual([{ from: 1000, to: 9000, readings: 70 }]);
  });

  it("stores texts as states", () => {
    say().started("history");
    const texts = [{ series: 1, times_ms: [1, 2, 3], values: ["on", null, "off"] }];
    say().update(update(Kind.HISTORY, [], { texts }), schema);
    const buffer = feed.series.get("state")?.buffer;
    expect(Array.from(buffer?.values ?? [], (code) => buffer?.textOf(code) ?? null)).toEqual(["on", null, "off"]);
  });

  it("reports a reading, but not a frame without readings", () => {
    let lastReading_ms = 0;
    feed.onReading = () => lastReading_ms++;
    say().started("snapshot");
    say().caughtUp();
    say().update(update(Kind.LIVE, []), schema);
    expect(lastReading_ms).toBe(0);
    say().update(update(Kind.LIVE, [5]), schema);
    expect(lastReading_ms).toBe(1);
  });

  it("reports whether it covers a range finely enough", () => {
    say().started("history");
    say().update(update(Kind.HISTORY, [1000, 2000, 3000]), schema);
    say().caughtUp();
    expect(feed.covers("t", 1500, 1)).toBe(true);
    expect(feed.covers("t", 500, 1)).toBe(false);
    expect(feed.covers("other", 1500, 1)).toBe(false);
  });

  it("has other versions than every other feed, also after equally many frames", () => {
    const versions = new Set<number>();
    for (const { options } of [feed, feed]) {
      const other = new Feed(hub, options);
      versions.add(other.version);
      say().started("history");
      say().update(update(Kind.HISTORY, [1]), schema);
      versions.add(other.version);
      say().caughtUp();
      versions.add(other.version);
    }
    expect(versions.size).toBe(6);
  });

  it("ends its subscription on close", () => {
    feed.close();
    expect(hub.ended).toBe(true);
  });
});
