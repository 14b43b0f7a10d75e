import { afterEach, describe, expect, it, vi } from "vitest";
import { describeRetry, hasChanged, QuarantineList } from "../../src/data/quarantine";
import type { QuarantineCounts, QuarantinedBatch } from "../../src/wire/api";

function message(offset: number, code = "empty"): QuarantinedBatch {
  return {
    offset,
    device: "d",
    epoch: "e",
    seq: offset,
    received_ns: offset,
    code,
    message: "",
    format: "json",
    size_bytes: 1,
  };
}

function countsOf(messages: QuarantinedBatch[]): QuarantineCounts {
  const codes = [...new Set(messages.map(({ code }) => code))].map((code) => {
    const entries = messages.filter((one) => one.code === code).length;
    return { code, entries, devices: 1, size_bytes: entries, oldest_ns: 0, newest_ns: 0, advice: "", retryable: true };
  });
  return {
    entries: messages.length,
    size_bytes: messages.length,
    newest: Math.max(0, ...messages.map(({ offset }) => offset)),
    dropped: 0,
    codes,
    devices: [],
    left_out: 0,
  };
}

/** Fake hub with these messages in quarantine, newest first. It accepts messages with an even offset. */
function serve(all: QuarantinedBatch[]) {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (input: string, init: RequestInit) => {
    const url = new URL(input, "http://hub");
    asked.push(`${init.method} ${url.pathname}${url.search}`);
    const code = url.searchParams.get("code");
    if (url.pathname.endsWith("/counts")) return Response.json(countsOf(all));
    if (url.pathname.endsWith("/retry")) {
      const { after, up_to } = JSON.parse(String(init.body)) as { after: number; up_to: number };
      const meant = all.filter(({ offset }) => offset > after && offset <= up_to).sort((a, b) => a.offset - b.offset);
      const round = meant.slice(0, 30);
      const accepted = round.filter(({ offset }) => offset % 2 === 0);
      for (const one of accepted) all.splice(all.indexOf(one), 1);
      const refused = round.length - accepted.length;
      return Response.json({
        selected: round.length,
        accepted: accepted.length,
        readings: accepted.length,
        refused,
        reasons: refused > 0 ? { empty: refused } : {},
        next: meant.length > round.length ? round[round.length - 1].offset : null,
      });
    }
    const before = Number(url.searchParams.get("cursor") ?? Number.MAX_SAFE_INTEGER);
    const fitting = all.filter((one) => one.offset < before && (code === null || one.code === code));
    const page = fitting.slice(0, Number(url.searchParams.get("limit")));
    const next = fitting.length > page.length ? String(page[page.length - 1].offset) : null;
    return Response.json({ quarantine: page, next });
  });
  return asked;
}

const some = (count: number) => Array.from({ length: count }, (_, index) => message(count - index));
const offsets = (list: QuarantineList) => list.messages.value.map(({ offset }) => offset);

afterEach(() => vi.unstubAllGlobals());

describe("QuarantineList", () => {
  it("loads the list again only after a change", async () => {
    const all = some(3);
    const asked = serve(all);
    const list = new QuarantineList();
    await list.refresh();
    await list.refresh();
    expect(asked).toEqual([
      "GET /api/v1/quarantine/counts",
      "GET /api/v1/quarantine?limit=50",
      "GET /api/v1/quarantine/counts",
    ]);
    all.unshift(message(4));
    await list.refresh();
    expect(offsets(list)).toEqual([4, 3, 2, 1]);
  });

  it("loads page by page, each message once", async () => {
    serve(some(10_000));
    const list = new QuarantineList();
    await list.refresh();
    expect(list.messages.value.length).toBe(50);
    while (list.hasMore.value) await list.loadMore();
    expect(offsets(list)).toEqual(Array.from({ length: 10_000 }, (_, index) => 10_000 - index));
  });

  it("does not replace a long list, but reports a change", async () => {
    const all = some(300);
    serve(all);
    const list = new QuarantineList();
    await list.refresh();
    await list.loadMore();
    await list.loadMore();
    all.unshift(message(301));
    await list.refresh();
    expect([list.messages.value[0].offset, list.isBehind.value]).toEqual([300, true]);
    await list.restart();
    expect([list.messages.value[0].offset, list.isBehind.value]).toEqual([301, false]);
  });

  it("shows only matching messages, even if an earlier answer arrives late", async () => {
    const all = [message(3, "not_finite"), message(2), message(1, "not_finite")];
    serve(all);
    const list = new QuarantineList();
    const late = list.refresh();
    await list.setFilter({ code: "not_finite", device: null });
    await late;
    expect(offsets(list)).toEqual([3, 1]);
  });

  it("retries in rounds until every message was tried once, and sums the results", async () => {
    const all = some(100);
    serve(all);
    const list = new QuarantineList();
    await list.refresh();
    all.unshift(message(102)); // arrived after the confirmation: not included
    const progress: number[] = [];
    const done = await list.retryAll({ code: null, device: null }, (count) => progress.push(count));
    expect(done).toEqual({ selected: 100, accepted: 50, readings: 50, refused: 50, reasons: { empty: 50 } });
    expect(progress).toEqual([30, 60, 90, 100]);
    expect(all.map(({ offset }) => offset)).toContain(102);
  });

  it("keeps the shown list and reports an error if the hub does not respond", async () => {
    serve(some(2));
    const list = new QuarantineList();
    await list.refresh();
    vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("no network")));
    await expect(list.refresh()).rejects.toThrow("The hub does not respond.");
    expect([offsets(list), list.problem.value]).toEqual([[2, 1], "The hub does not respond."]);
  });
});

describe("hasChanged", () => {
  it("detects a changed reason", () => {
    const before = countsOf([message(1, "empty"), message(2, "empty")]);
    expect(hasChanged(before, before)).toBe(false);
    expect(hasChanged(before, countsOf([message(1, "not_finite"), message(2, "empty")]))).toBe(true);
    expect(hasChanged(null, before)).toBe(true);
  });
});

describe("describeRetry", () => {
  it("reports what was accepted and why the rest stays", () => {
    expect(describeRetry({ selected: 3, accepted: 1, readings: 1200, refused: 2, reasons: { empty: 2 } })).toBe(
      "1 message accepted, with 1,200 readings; 2 messages stay: empty.",
    );
    expect(describeRetry({ selected: 0, accepted: 0, readings: 0, refused: 0, reasons: {} })).toBe(
      "Nothing was retried: no message in quarantine matches.",
    );
  });
});
