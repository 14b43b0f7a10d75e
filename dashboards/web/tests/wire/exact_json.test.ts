import { describe, expect, it } from "vitest";
import { encodeExact, JsonError, JsonObject, LargeNumber, MAX_LEVELS, parseExact } from "../../src/wire/exact_json";
import { Randomness } from "../randomness";

describe("exact JSON", () => {
  it("keeps whole numbers of any size, repeated names, and numbers that are too large for a float", () => {
    expect(parseExact("[1, -0.5e1, 9007199254740991, 9007199254740993]")).toEqual([
      1,
      -5,
      9007199254740991,
      9007199254740993n,
    ]);
    const found = parseExact('{"a": 1, "b": {"a": 2}, "a": [3]}') as JsonObject;
    expect([...found.members.keys()]).toEqual(["a", "b"]);
    expect(found.repeated).toEqual([["a", [3]]]);
    expect(parseExact("1e999")).toEqual(new LargeNumber("1e999"));
  });

  it("reads the words of programs only if asked", () => {
    expect(parseExact("[NaN, -inf, None, undefined]", true)).toEqual([null, null, null, null]);
    expect(() => parseExact("[NaN]")).toThrow(JsonError);
  });

  it.each([
    "",
    "{",
    "[1,]",
    '{"a":1,}',
    "01",
    "1.",
    ".5",
    "+1",
    "nul",
    '"\\x"',
    '"\n"',
    '"\\ud800"',
    "{'a':1}",
    "1 2",
    '{"a"}',
    '"',
  ])("rejects %s", (text) => {
    expect(() => parseExact(text)).toThrow(JsonError);
  });

  it("bounds the levels", () => {
    expect(() => parseExact("[".repeat(100_000))).toThrow(new JsonError(`more than ${MAX_LEVELS} levels`, true));
  });

  it("encodes what it reads, and agrees with the browser's own", () => {
    const random = new Randomness(3);
    const value = (depth: number): unknown => {
      const leaves = [null, true, false, random.next() * 10 ** random.below(20), random.below(2 ** 30), 'é"\\\n', ""];
      if (depth > 3 || random.below(2) === 0) return random.choice(leaves);
      const items = Array.from({ length: random.below(4) }, () => value(depth + 1));
      return random.below(2) === 0 ? items : Object.fromEntries(items.map((item, place) => [`n${place}`, item]));
    };
    const plain = (parsed: unknown): unknown => {
      if (Array.isArray(parsed)) return parsed.map(plain);
      if (!(parsed instanceof JsonObject)) return typeof parsed === "bigint" ? Number(parsed) : parsed;
      return Object.fromEntries([...parsed.members].map(([name, member]) => [name, plain(member)]));
    };
    for (let turn = 0; turn < 200; turn++) {
      const sent = value(0);
      const text = encodeExact(sent as never);
      expect(JSON.parse(text)).toEqual(sent);
      expect(plain(parseExact(text))).toEqual(sent);
    }
    expect(encodeExact({ a: 2n ** 63n - 1n, b: [-0], c: undefined })).toBe('{"a":9223372036854775807,"b":[-0.0]}');
  });
});
