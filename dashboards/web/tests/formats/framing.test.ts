import { describe, expect, it } from "vitest";
import { decodeText, LineFraming, Transcoder } from "../../src/formats/framing";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (raw: Uint8Array) => new TextDecoder().decode(raw);

/** Return the numbers and texts of the lines, or the code of a refusal, of some pieces. */
function lines(pieces: string[], maxBytes = 100): [number, string][] {
  const framing = new LineFraming(maxBytes);
  const frames = [...pieces.flatMap((piece) => framing.feed(bytes(piece))), ...framing.finish()];
  return frames.map((frame) => [frame.line, "code" in frame ? `${frame.code} ${text(frame.raw)}` : text(frame.raw)]);
}

describe("lines", () => {
  it("end with any line end, and blank ones only count", () => {
    const found = [
      [1, "a"],
      [2, "b"],
      [3, "c"],
      [5, "d"],
    ];
    const input = "a\r\nb\rc\n \t\nd";
    expect(lines([input])).toEqual(found);
    expect(lines([...input])).toEqual(found);
  });

  it("that are too long cost themselves, in bounded memory", () => {
    const long = "x".repeat(25);
    const found = [
      [1, "size xxxxxxxxxx"],
      [2, "ok"],
      [3, "size xxxxxxxxxx"],
    ];
    expect(lines([`${long}\nok\n${long}`], 10)).toEqual(found);
    expect(lines([...`${long}\r\nok\r\n${long}`], 10)).toEqual(found);
  });
});

describe("encodings", () => {
  it("are UTF-8 without its mark, and UTF-16 by its mark", () => {
    const decoded = (raw: number[]) => {
      const transcoder = new Transcoder("auto");
      return (
        raw.map((byte) => text(transcoder.feed(Uint8Array.of(byte)))).join("") +
        text(transcoder.feed(new Uint8Array(), true))
      );
    };
    expect(decoded([0xef, 0xbb, 0xbf, 0x61])).toBe("a");
    expect(decoded([0xff, 0xfe, 0x61, 0, 0xe9, 0])).toBe("aé");
    expect(decoded([0xfe, 0xff, 0, 0x61])).toBe("a");
    expect(decoded([0x61])).toBe("a");
  });

  it("of other lines are cp1252 only where the format says so", () => {
    expect([decodeText(Uint8Array.of(0xb0)), decodeText(Uint8Array.of(0xb0), true)]).toEqual([null, "°"]);
    expect(decodeText(Uint8Array.of(0x81), true)).toBeNull();
    expect(decodeText(bytes("\0\ufeffa\r\n\0"))).toBe("a");
  });
});
