import { describe, expect, it } from "vitest";
import { look } from "../../src/chart/held_series";
import { windowOf } from "../../src/data/history_window";
import { SeriesBuffer } from "../../src/data/series_buffer";

const everywhere = Number.POSITIVE_INFINITY;

function filled(times: number[]): SeriesBuffer {
  const buffer = new SeriesBuffer();
  buffer.add(times, times);
  return buffer;
}

describe("look", () => {
  it("finds that readings were appended, and keeps how far was drawn", () => {
    const buffer = filled([1, 2]);
    const first = look(null, buffer, undefined, everywhere);
    expect(first.change).toBe("replaced");
    first.held.drawnTo = 2;
    buffer.add([3], [3]);
    const second = look(first.held, buffer, undefined, everywhere);
    expect(second.change).toBe("appended");
    expect(second.held.drawnTo).toBe(2);
    expect(look(second.held, buffer, undefined, everywhere).change).toBe("none");
  });

  it("finds that what was drawn is void after late readings", () => {
    const buffer = filled([1, 5]);
    const { held } = look(null, buffer, undefined, everywhere);
    buffer.add([3], [3]);
    expect(look(held, buffer, undefined, everywhere).change).toBe("replaced");
  });

  it("does not take another buffer for the same, however alike they are", () => {
    const { held } = look(null, filled([1, 2, 3]), undefined, everywhere);
    expect(look(held, filled([1, 2, 3, 4]), undefined, everywhere).change).toBe("replaced");
  });

  it("leaves a view of the past alone while readings come after it", () => {
    const buffer = filled([1, 2, 300]);
    const answer = { device: "d", metric: "m", type: "float" as const, unit: "", resolution: "raw" as const };
    const window = windowOf({ ...answer, time_ns: [1e6], values: [1] }, { from: 0, to: 100, step_ms: 1 });
    const first = look(null, buffer, window, 100);
    expect(first.change).toBe("replaced");
    buffer.add([301], [301]);
    expect(look(first.held, buffer, window, 100).change).toBe("none");
    expect(look(first.held, buffer, undefined, 100).change).toBe("replaced");
  });
});
