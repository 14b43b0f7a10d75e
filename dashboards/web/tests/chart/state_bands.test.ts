import { describe, expect, it } from "vitest";
import { bandsOf } from "../../src/chart/state_bands";

const columns = (rows: [number, number][]) => ({
  times: Float64Array.from(rows, ([time]) => time),
  values: Float64Array.from(rows, ([, value]) => value),
});

describe("bandsOf", () => {
  it("joins equal neighbours, and the last state lasts to the edge", () => {
    expect(
      bandsOf(
        columns([
          [0, 1],
          [10, 1],
          [20, 2],
        ]),
        { from: 0, to: 30, threshold: 50 },
      ),
    ).toEqual([
      { from: 0, to: 20, value: 1 },
      { from: 20, to: 30, value: 2 },
    ]);
  });

  it("ends a state where silence begins", () => {
    expect(
      bandsOf(
        columns([
          [0, 1],
          [10, 1],
          [100, 1],
        ]),
        { from: 0, to: 300, threshold: 50 },
      ),
    ).toEqual([
      { from: 0, to: 10, value: 1 },
      { from: 100, to: 100, value: 1 },
    ]);
  });

  it("shows nothing where there is no value", () => {
    expect(
      bandsOf(
        columns([
          [0, 1],
          [10, Number.NaN],
          [20, 1],
        ]),
        { from: 0, to: 30, threshold: 50 },
      ),
    ).toEqual([
      { from: 0, to: 10, value: 1 },
      { from: 20, to: 30, value: 1 },
    ]);
  });
});
