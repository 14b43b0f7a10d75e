/** The quarantine: its HTTP API and the list that the page shows. */

import { type Signal, signal } from "@preact/signals";
import type {
  QuarantineCounts,
  QuarantinedBatch,
  QuarantinedMessage,
  QuarantinePage,
  RetriedBatch,
  RetriedBatches,
} from "../wire/api";
import { withBase } from "../wire/base_path";
import { errorText, request } from "./api";
import { plural } from "./number_format";

/** null selects all. */
export interface Filter {
  device: string | null;
  code: string | null;
}

/** Result of one or more rounds of retries. */
type RetryTotal = Omit<RetriedBatches, "next">;

const PAGE = 50;
/** Limit of the hub per request. */
const MAX_PAGE = 100;

function quarantinePath({ device, code }: Filter, parameters: Record<string, string>): string {
  const query = new URLSearchParams(parameters);
  if (device !== null) query.set("device", device);
  if (code !== null) query.set("code", code);
  return `/quarantine?${query}`;
}

export function fetchMessage(offset: number): Promise<QuarantinedMessage> {
  return request("GET", `/quarantine/${offset}`);
}

/** Return the address of the original message bytes. */
export function payloadUrl(offset: number): string {
  return withBase(`/api/v1/quarantine/${offset}/payload`);
}

/** Return the result of a retry as a sentence. */
export function describeRetry({ selected, accepted, readings, reasons }: RetryTotal): string {
  const parts = [];
  if (accepted > 0) parts.push(`${plural(accepted, "message")} accepted, with ${plural(readings, "reading")}`);
  for (const [code, count] of Object.entries(reasons))
    parts.push(`${plural(count, "message")} ${count === 1 ? "stays" : "stay"}: ${code}`);
  return selected === 0 ? "Nothing was retried: no message in quarantine matches." : `${parts.join("; ")}.`;
}

/** Return whether the list loaded for `before` may differ from the current one. */
export function hasChanged(before: QuarantineCounts | null, now: QuarantineCounts): boolean {
  if (before === null || before.newest !== now.newest || before.entries !== now.entries) return true;
  const known = new Map(before.codes.map(({ code, entries }) => [code, entries]));
  return now.codes.some(({ code, entries }) => known.get(code) !== entries);
}

/** State of the quarantine page. */
export class QuarantineList {
  readonly counts: Signal<QuarantineCounts | null> = signal(null);
  readonly messages: Signal<QuarantinedBatch[]> = signal([]);
  readonly filter: Signal<Filter> = signal({ device: null, code: null });
  /** More messages exist than are loaded. */
  readonly hasMore = signal(false);
  /** The list has changed, but is not replaced while a person reads a long list. */
  readonly isBehind = signal(false);
  readonly problem: Signal<string | null> = signal(null);
  private cursor: string | null = null;
  /** Counts filter changes; answers to an earlier filter are ignored. */
  private filterVersion = 0;

  /** Update the counts, and load the list again if it may have changed. */
  async refresh(): Promise<void> {
    try {
      const counts: QuarantineCounts = await request("GET", "/quarantine/counts");
      const changed = hasChanged(this.counts.peek(), counts);
      this.counts.value = counts;
      this.problem.value = null;
      if (!changed) return;
      if (this.messages.peek().length > MAX_PAGE) this.isBehind.value = true;
      else await this.load();
    } catch (error) {
      this.showError(error);
      throw error;
    }
  }

  /** Change the filter and load the newest messages. */
  async setFilter(filter: Filter): Promise<void> {
    this.filter.value = filter;
    this.messages.value = [];
    await this.restart();
  }

  /** Load the newest messages again. */
  async restart(): Promise<void> {
    this.filterVersion += 1;
    this.messages.value = this.messages.peek().slice(0, PAGE);
    this.isBehind.value = false;
    try {
      await this.load();
    } catch (error) {
      this.showError(error);
    }
  }

  /** Load the next page. */
  async loadMore(): Promise<void> {
    const version = this.filterVersion;
    if (this.cursor === null) return;
    try {
      const page = await this.page(PAGE, this.cursor);
      if (version !== this.filterVersion) return;
      const known = new Set(this.messages.peek().map(({ offset }) => offset));
      this.messages.value = [...this.messages.peek(), ...page.quarantine.filter(({ offset }) => !known.has(offset))];
      this.setNext(page.next);
    } catch (error) {
      this.showError(error);
    }
  }

  /** Retry one message. */
  async retryOne(offset: number): Promise<RetryTotal> {
    const result: RetriedBatch = await request("POST", `/quarantine/${offset}/retry`);
    return {
      selected: 1,
      accepted: result.accepted ? 1 : 0,
      readings: result.readings,
      refused: result.accepted ? 0 : 1,
      reasons: result.accepted ? {} : { [`${result.code}, ${result.message}`]: 1 },
    };
  }

  /** Retry all matching messages in rounds. `onProgress` receives the number of retried messages. */
  async retryAll(filter: Filter, onProgress: (done: number) => void): Promise<RetryTotal> {
    const total: RetryTotal = { selected: 0, accepted: 0, readings: 0, refused: 0, reasons: {} };
    const up_to = this.counts.peek()?.newest ?? 0;
    let after: number | null = 0;
    while (after !== null) {
      const round: RetriedBatches = await request("POST", "/quarantine/retry", { ...filter, after, up_to });
      total.selected += round.selected;
      total.accepted += round.accepted;
      total.readings += round.readings;
      total.refused += round.refused;
      for (const [code, count] of Object.entries(round.reasons))
        total.reasons[code] = (total.reasons[code] ?? 0) + count;
      onProgress(total.accepted + total.refused);
      after = round.next;
    }
    return total;
  }

  deleteOne(offset: number): Promise<void> {
    return request("DELETE", `/quarantine/${offset}`);
  }

  /** Delete all matching messages that existed at the last count. */
  async deleteAll(filter: Filter): Promise<number> {
    const path = quarantinePath(filter, { up_to: String(this.counts.peek()?.newest ?? 0), all: "true" });
    return (await request<{ deleted: number }>("DELETE", path)).deleted;
  }

  private async load(): Promise<void> {
    const version = this.filterVersion;
    const page = await this.page(Math.min(MAX_PAGE, Math.max(PAGE, this.messages.peek().length)), null);
    if (version !== this.filterVersion) return;
    this.messages.value = page.quarantine;
    this.setNext(page.next);
  }

  private page(limit: number, cursor: string | null): Promise<QuarantinePage> {
    const parameters = { limit: String(limit), ...(cursor !== null && { cursor }) };
    return request("GET", quarantinePath(this.filter.peek(), parameters));
  }

  private setNext(next: string | null): void {
    this.cursor = next;
    this.hasMore.value = next !== null;
    this.problem.value = null;
  }

  private showError(error: unknown): void {
    this.problem.value = errorText(error);
  }
}
