import { describe, expect, it } from "vitest";
import { Randomness } from "../randomness";
import { bytesOf, FRAMES, plainRows, read } from "./golden";

/** Return bytes of the golden frames with some of them changed, removed or repeated. */
function damaged(random: Randomness): Uint8Array {
  const bytes = [...bytesOf(random.choice(FRAMES)), ...bytesOf(random.choice(FRAMES))];
  for (let change = random.below(6); change > 0; change--) {
    const at = random.below(bytes.length);
    if (random.below(2) === 0) bytes.splice(at, 1 + random.below(4));
    else
      bytes.splice(
        at,
        0,
        ...random
          .choice(["\n", "\r", '"', "{", "1", ",", "\0", "é", "\x80", " "])
          .split("")
          .map((c) => c.charCodeAt(0)),
      );
  }
  return Uint8Array.from(bytes);
}

describe("any bytes", () => {
  it("are rows or refusals with a reason, the same wherever the stream is cut", () => {
    const random = new Randomness(7);
    for (let turn = 0; turn < 300; turn++) {
      const raw = damaged(random);
      const rules = random.choice(FRAMES.filter(({ rules: { format } }) => format === undefined)).rules;
      const whole = read(raw, rules);
      for (const { reason, line } of whole.refusals) expect([reason.length > 0, line > 0]).toEqual([true, true]);
      const cut = read(raw, rules, [1 + random.below(3), 1 + random.below(9)]);
      expect(plainRows(cut.rows)).toEqual(plainRows(whole.rows));
      expect(cut.refusals).toEqual(whole.refusals);
    }
  });

  it("of random values do not throw either", () => {
    const random = new Randomness(11);
    for (let turn = 0; turn < 300; turn++)
      read(Uint8Array.from({ length: random.below(200) }, () => random.below(256)));
  });

  it("are read by the types that a metric has already, and by those that are declared", () => {
    const line = (text: string) => new TextEncoder().encode(text);
    const known = read(line('{"a":1,"b":"x"}\n'), {}, [], (_, metric) => (metric === "a" ? "string" : "float"));
    expect(known.refusals.map(({ metric }) => metric)).toEqual(["a", "b"]);
    const declared = read(line('{"a":9007199254740993}\n'), { types: { a: "integer" } });
    expect(plainRows(declared.rows)[0].values).toEqual({ a: 9007199254740993n });
  });
});
