import { describe, expect, it } from "vitest";
import { BatchBuilder, RefusalTally, withMetrics } from "../../src/agent/batch";
import { LineInput, type LineResult } from "../../src/agent/lines";
import { LineLog } from "../../src/data/board_lines";
import { rulesOf } from "../../src/formats/rules";
import { numbered } from "../../src/wire/device";
import { Randomness } from "../randomness";

const bytes = (text: string) => new TextEncoder().encode(text);
const input = (rules = {}, lines: Uint8Array[] = []) => new LineInput(rulesOf(rules), () => null, lines);
const values = (results: LineResult[]) =>
  results.flatMap(({ rows }) => rows.map((row) => Object.fromEntries(row.values)));

describe("lines of a port", () => {
  it("skip the first line, which may be the rest of one, unless it proves that it is complete", () => {
    const cut = input().feed(bytes("5 hum=40\nt=1 hum=2\nt=2 hum=3\nt=3 hum=4\nt=4 hum=5\n"), 1n);
    expect(cut.map(({ isSkipped }) => isSkipped)).toEqual([true, false, false, false, false]);
    expect(values(cut)).toHaveLength(4);
    expect(values(input().feed(bytes('{"t":1}\n'), 1n))).toEqual([{ t: 1 }]);
    const table = input().feed(bytes("t,h\n1,2\n3,4\n5,6\n7,8\n"), 1n);
    expect(values(table)).toEqual([1, 3, 5, 7].map((t) => ({ t, h: t + 1 })));
  });

  it("wait for five lines, keep their arrival, and begin without them if asked", () => {
    const lines = input();
    expect(lines.feed(bytes("x\nt=1\n"), 7n)).toEqual([]);
    expect(lines.isWaiting).toBe(true);
    const found = lines.begin();
    expect([found.at(-1)?.arrivalNs, values(found), lines.isWaiting]).toEqual([7n, [{ t: 1 }], false]);
  });

  it("know the header of an earlier run, which the board does not repeat", () => {
    const first = input();
    first.feed(
      bytes(
        "time;t [°C]\n2026-11-28T15:00:00Z;1,5\n2026-11-28T15:00:01Z;2\n2026-11-28T15:00:02Z;3\n2026-11-28T15:00:03Z;4\n",
      ),
      1n,
    );
    const again = input({}, first.lines);
    const found = again.feed(bytes("8:00:00Z;4\n2026-11-28T15:00:09Z;5,5\n"), 1n);
    expect([found[0].isSkipped, values(found)]).toEqual([true, [{ t: 5.5 }]]);
    expect(found[1].news).toMatchObject([{ metric: "t", unit: "°C", type: "float" }]);
  });

  it("detect the format again after 20 unreadable lines", () => {
    const lines = input();
    lines.feed(bytes('{"t":1}\n'), 1n);
    const found = lines.feed(bytes("t=1\n".repeat(26)), 1n);
    expect(found.slice(0, 20).every(({ refusals }) => refusals.length === 1)).toBe(true);
    expect([lines.detection?.format, values(found).length]).toEqual(["pairs", 6]);
  });

  it("are the same wherever the stream is cut", () => {
    const text = `${Array.from({ length: 30 }, (_, number) => `n=${number} s="a, b"`).join("\r\n")}\r\n`;
    const whole = values(input().feed(bytes(text), 1n));
    const random = new Randomness(5);
    for (let turn = 0; turn < 50; turn++) {
      const lines = input();
      const found: LineResult[] = [];
      for (let at = 0; at < text.length; ) {
        const size = 1 + random.below(40);
        found.push(...lines.feed(bytes(text.slice(at, at + size)), 1n));
        at += size;
      }
      expect(values(found)).toEqual(whole);
    }
  });
});

describe("batches", () => {
  const row = (entries: [string, number | bigint | string | boolean][], timeNs: bigint | null = null) => ({
    line: 1,
    raw: bytes(""),
    device: "",
    timeNs,
    values: new Map(entries),
    isTimeOdd: false,
  });

  it("have a column for each metric, and no time twice for lines that arrive together", () => {
    const batch = new BatchBuilder();
    batch.add(row([["a", 1]]), 10n);
    batch.add(row([["b", "x"]]), 10n);
    batch.add(row([["a", 2n ** 62n]], 5n), 10n);
    const { body = "", readings } = batch.take() ?? {};
    expect([numbered("data", 3, body), readings]).toEqual([
      '{"type":"data","seq":3,"time":[10,1010,5],"values":{"a":[1,null,4611686018427387904],"b":[null,"x",null]}}',
      3,
    ]);
    expect(batch.take()).toBeNull();
  });

  it("stay below the largest frame, whatever the lines are", () => {
    const random = new Randomness(9);
    const batch = new BatchBuilder();
    for (let turn = 0; turn < 3000; turn++) {
      const count = random.below(60);
      const next = row(Array.from({ length: count }, () => [`m${random.below(900)}`, "y".repeat(random.below(200))]));
      if (!batch.hasRoom(next)) expect(batch.take()?.body.length ?? 0).toBeLessThan(200_000);
      batch.add(next, 1n);
    }
  });

  it("declare metrics once, and again with a new type or unit", () => {
    const known = withMetrics([], [{ metric: "a", type: "float", unit: "", label: "" }]);
    const news = [
      { metric: "a", type: "float" as const, unit: "V", label: "" },
      { metric: "b", type: "boolean" as const, unit: "", label: "B " },
      { metric: "c", type: null, unit: "", label: "" },
    ];
    expect(withMetrics(known, news)).toEqual([
      { name: "a", unit: "V" },
      { name: "b", type: "boolean", description: "B " },
    ]);
  });
});

describe("what is refused", () => {
  it("is counted by reason with the first example", () => {
    const lines = input({ format: "json" });
    const tally = new RefusalTally();
    for (const { refusals } of lines.feed(bytes('{"t":1}\n{"t":"hot"}\n{"t":"cold"}\nnoise\n'), 1n))
      tally.add(refusals, 4n);
    const { body = "" } = tally.take("USB") ?? {};
    expect(JSON.parse(`{${body}}`)).toMatchObject({
      source: "USB",
      from: 4,
      to: 4,
      reasons: [
        {
          code: "type",
          count: 2,
          raw: '{"t":"hot"}',
          metric: "t",
          value: "hot",
          setting: expect.stringContaining("types.t"),
        },
        { code: "syntax", count: 1, raw: "noise" },
      ],
    });
    expect([tally.isEmpty, tally.take("USB")]).toEqual([true, null]);
  });

  it("is shown with its line, without hidden characters, and bytes that are no text look like a wrong baud rate", () => {
    const log = new LineLog();
    const good = bytes('{"t":1}\n{"t":"\u202ehot"}\n');
    log.add(input().feed(good, 1n), good);
    expect(log.shown.map(({ key, text, values }) => [key, text, values.length])).toEqual([
      [1, '{"t":1}', 1],
      [2, '{"t":"\\u202ehot"}', 0],
    ]);
    expect([log.totals, log.isNoise]).toEqual([{ lines: 2, readings: 1, refused: 1, skipped: 0 }, false]);
    const noise = Uint8Array.from({ length: 300 }, (_, at) => (at * 37) % 256);
    log.add([], noise);
    expect(log.isNoise).toBe(true);
  });
});
