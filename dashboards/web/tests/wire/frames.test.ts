import { describe, expect, it } from "vitest";
import { decodeUpdate, encodeUpdate, Kind, type Update } from "../../src/wire/frames";
import { WireError } from "../../src/wire/protocol";
import { bytesOf, golden, hexOf } from "./golden";

interface PlainUpdate {
  kind: keyof typeof kinds;
  schema: number;
  subscription: number;
  conflated: number;
  offset: number;
  numbers: { series: number; times_ms: number[]; values: (number | null)[] }[];
  texts: { series: number; times_ms: number[]; values: (string | null)[] }[];
}

const kinds = { live: Kind.LIVE, history: Kind.HISTORY, missed: Kind.MISSED, snapshot: Kind.SNAPSHOT };

function fromPlain(plain: PlainUpdate): Update {
  return {
    ...plain,
    kind: kinds[plain.kind],
    numbers: plain.numbers.map(({ series, times_ms, values }) => ({
      series,
      times_ms: Float64Array.from(times_ms),
      values: Float64Array.from(values, (value) => value ?? Number.NaN),
    })),
  };
}

const { frames, invalid } = golden<{
  frames: { name: string; hex: string; update: PlainUpdate }[];
  invalid: { name: string; hex: string; code: string }[];
}>("live_frames");

describe("frames", () => {
  it.each(frames)("decodes: $name", ({ hex, update }) => {
    expect(decodeUpdate(bytesOf(hex))).toEqual(fromPlain(update));
  });
  it.each(frames)("encodes: $name", ({ hex, update }) => {
    expect(hexOf(encodeUpdate(fromPlain(update)))).toBe(hex);
  });
  it.each(invalid)("rejects: $name", ({ hex, code }) => {
    let refused = "accepted";
    try {
      decodeUpdate(bytesOf(hex));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      refused = error.code;
    }
    expect(refused).toBe(code);
  });
  it("keeps every whole millisecond exact", () => {
    const times = Float64Array.from({ length: 5000 }, (_, i) => 1_767_225_600_000 + i * 977);
    const values = times.map((_, i) => i);
    const frame = encodeUpdate({
      kind: Kind.LIVE,
      schema: 1,
      subscription: 0,
      conflated: 0,
      offset: 1,
      numbers: [{ series: 0, times_ms: times, values }],
      texts: [{ series: 1, times_ms: [...times], values: [...times].map(String) }],
    });
    const { numbers, texts } = decodeUpdate(frame);
    expect(numbers[0].times_ms).toEqual(times);
    expect([...numbers[0].times_ms].every(Number.isInteger)).toBe(true);
    expect(texts[0].times_ms).toEqual([...times]);
  });
  it("returns columns that are views of the frame, not copies", () => {
    const frame = bytesOf(frames[0].hex);
    expect(decodeUpdate(frame).numbers[0].values.buffer).toBe(frame);
  });
});
