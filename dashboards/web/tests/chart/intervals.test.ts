import { describe, expect, it } from "vitest";
import {
  commonGaps,
  findGaps,
  gapReason,
  gapThreshold,
  restartNear,
  restartsIn,
  silenceStart,
  stateBands,
} from "../../src/chart/intervals";

const every = (step: number, count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i * step);

describe("gapThreshold", () => {
  it("is a multiple of the interval of a regular series", () => {
    const threshold = gapThreshold(every(1000, 300));
    expect(threshold).toBeGreaterThan(2000);
    expect(threshold).toBeLessThan(10_000);
  });

  it("is not changed by the gaps themselves", () => {
    const times = [...every(1000, 50), ...every(1000, 50, 600_000), ...every(1000, 50, 1_200_000)];
    expect(findGaps(times, gapThreshold(times))).toEqual([
      { from: 49_000, to: 600_000 },
      { from: 649_000, to: 1_200_000 },
    ]);
  });

  it("detects a gap among few readings", () => {
    const times = [0, 1000, 2000, 3000, 60_000, 61_000];
    expect(findGaps(times, gapThreshold(times))).toEqual([{ from: 3000, to: 60_000 }]);
  });

  it("finds no gaps in a series that reports on change", () => {
    const times: number[] = [0];
    for (let i = 1; i < 400; i++) times.push(times[i - 1] + 500 * (1 + ((i * 7919) % 13)));
    expect(findGaps(times, gapThreshold(times))).toEqual([]);
  });

  it("does not count a short delay as a gap", () => {
    expect(findGaps(every(20, 200).concat(4700), gapThreshold(every(20, 200)))).toEqual([]);
  });

  it("is infinite for too few readings", () => {
    expect(gapThreshold([0, 1000, 99_000])).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("silenceStart", () => {
  const online = { threshold: 50, offlineSince: null };

  it("is the last reading once the next one is overdue", () => {
    expect(silenceStart(100, { ...online, now: 150 })).toBeNull();
    expect(silenceStart(100, { ...online, now: 151 })).toBe(100);
  });

  it("is the end of the connection of an offline device, also without a threshold", () => {
    const offline = { threshold: Number.POSITIVE_INFINITY, offlineSince: 120 };
    expect(silenceStart(100, { ...offline, now: 9000 })).toBe(120);
    expect(silenceStart(130, { ...offline, now: 9000 })).toBe(130);
  });
});

describe("commonGaps", () => {
  it("are where every series is silent", () => {
    const a = [
      { from: 0, to: 10 },
      { from: 20, to: 30 },
    ];
    const b = [{ from: 5, to: 25 }];
    expect(commonGaps([a, b])).toEqual([
      { from: 5, to: 10 },
      { from: 20, to: 25 },
    ]);
    expect(commonGaps([a, []])).toEqual([]);
    expect(commonGaps([])).toEqual([]);
  });
});

const gap = { from: 1_000_000, to: 1_192_000 };
const event = (time_ms: number, kind: string, detail: string) => ({
  id: 1,
  time_ns: time_ms * 1e6,
  kind,
  detail,
});
const broke = event(1_000_500, "disconnected", "the connection broke");

describe("restarts", () => {
  const first = event(1_000_000, "restarted", "rst:0x1 (POWERON_RESET)");
  const restarts = restartsIn([event(1_500_000, "restarted", ""), broke, first]);

  it("are the events of this kind, at the time of the board", () => {
    expect(restarts).toEqual([
      { time: 1_500_000, detail: "" },
      { time: 1_000_000, detail: "rst:0x1 (POWERON_RESET)" },
    ]);
  });

  it("are found at the pointer, the nearest first", () => {
    expect(restartNear(restarts, 1_000_400, 500)).toBe(restarts[1]);
    expect(restartNear(restarts, 1_300_000, 400_000)).toBe(restarts[0]);
    expect(restartNear(restarts, 1_000_600, 500)).toBeNull();
    expect(restartNear([], 0, 500)).toBeNull();
  });

  it("explain a gap of a device that was connected", () => {
    expect(gapReason(gap, [first], null)).toBe(
      "No readings for 3 min 12 s. The board restarted (rst:0x1 (POWERON_RESET))",
    );
  });
});

describe("gapReason", () => {
  it("is the device's declaration if there is one", () => {
    const events = [event(1_190_000, "gap", "batches 4 to 9 lost: spool full"), broke];
    expect(gapReason(gap, events, null)).toBe(
      "No readings for 3 min 12 s. The device says: batches 4 to 9 lost: spool full",
    );
  });

  it("is the hub if it started within the gap", () => {
    expect(gapReason(gap, [broke], 1_180_000)).toBe("No readings for 3 min 12 s. The hub was off");
  });

  it("is the hub if it stopped or closed the connection for a restart", () => {
    for (const detail of ["the hub stopped", "closed with 1012: shutting_down"])
      expect(gapReason(gap, [event(1_000_500, "disconnected", detail)], 9_000_000)).toBe(
        "No readings for 3 min 12 s. The hub was off",
      );
  });

  it("is the device if it disconnected, whatever its own text says", () => {
    expect(gapReason(gap, [broke], 5)).toBe(
      "No readings for 3 min 12 s. The device was offline (the connection broke)",
    );
    const words = "closed with 4000: restart of the USB hub, shutting down";
    expect(gapReason(gap, [event(1_000_500, "disconnected", words)], null)).toBe(
      `No readings for 3 min 12 s. The device was offline (${words})`,
    );
    expect(gapReason(gap, [event(1_191_000, "connected", "gap-filler 2.0, offline first")], null)).toBe(
      "No readings for 3 min 12 s. The device was offline",
    );
  });

  it("is unknown without events in the gap and ignores other times and kinds", () => {
    const events = [
      event(100_000, "disconnected", "the connection broke"),
      event(1_000_500, "superseded", "a newer connection took over"),
    ];
    expect(gapReason(gap, events, 900_000)).toBe("No readings for 3 min 12 s. The device sent none");
  });
});

const columns = (rows: [number, number][]) => ({
  times: Float64Array.from(rows, ([time]) => time),
  values: Float64Array.from(rows, ([, value]) => value),
});

describe("stateBands", () => {
  it("joins equal neighbours and extends the last state to the edge", () => {
    expect(
      stateBands(
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

  it("ends a state where silence starts", () => {
    expect(
      stateBands(
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

  it("ends the only state where the device went offline", () => {
    const alone = { from: 0, to: 300, threshold: gapThreshold([10]) };
    expect(stateBands(columns([[10, 1]]), alone)).toEqual([{ from: 10, to: 300, value: 1 }]);
    expect(stateBands(columns([[10, 1]]), { ...alone, offlineSince: 40 })).toEqual([{ from: 10, to: 40, value: 1 }]);
  });

  it("has no band for missing values", () => {
    expect(
      stateBands(
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
