/** The settings of the open device: as it declares and reports them, and the desired values. */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { changeSettings, fetchSettings, waitForSettings } from "../../data/api";
import type { ParameterValue } from "../../data/commands";
import { Poller } from "../../data/poller";
import { isMoving } from "../../data/settings";
import type { DesiredDetails } from "../../wire/api";

/** Others change settings, too. What a device reports about a new value is followed without this delay. */
const POLL_PERIOD_MS = 5000;
const WAIT_S = 25;

export class DeviceSettings {
  /** null until the hub has answered. */
  readonly details: Signal<DesiredDetails | null> = signal(null);
  private readonly device: string;
  private readonly isConnected: () => boolean;
  private readonly poller: Poller<void>;
  private readonly stop: () => void;
  private followed: AbortController | null = null;
  private isClosed = false;

  constructor(device: string, isConnected: () => boolean) {
    this.device = device;
    this.isConnected = isConnected;
    this.poller = new Poller(() => this.load(), POLL_PERIOD_MS);
    this.stop = this.poller.start();
  }

  /** Why the hub does not return the settings; null if it does. */
  get problem(): ReadonlySignal<string | null> {
    return this.poller.problem;
  }

  /** True after the hub has answered, or failed to. */
  get isSettled(): boolean {
    return this.details.value !== null || this.problem.value !== null;
  }

  /** Load the settings now: the device has connected, and may declare others. */
  refresh(): void {
    this.load().catch(() => {
      // The poller asks again, and reports the problem.
    });
  }

  close(): void {
    this.isClosed = true;
    this.stop();
    this.followed?.abort();
  }

  /** Desire a value, or none with null. Throws ApiError, also if somebody else has changed the values since `version`. */
  async change(name: string, value: ParameterValue | null, version: number): Promise<void> {
    this.show(await changeSettings(this.device, { [name]: value }, version));
  }

  private async load(): Promise<void> {
    this.show(await fetchSettings(this.device));
  }

  /** Show an answer, unless a newer one has come before it. */
  private show(answer: DesiredDetails): void {
    const shown = this.details.peek();
    const isNewer =
      shown === null || answer.version > shown.version || (answer.reported_ns ?? 0) >= (shown.reported_ns ?? 0);
    if (isNewer && JSON.stringify(answer) !== JSON.stringify(shown)) this.details.value = answer;
    void this.follow();
  }

  /** Wait for the next report while a value waits for the device. */
  private async follow(): Promise<void> {
    const shown = this.details.peek();
    if (this.isClosed || this.followed !== null || shown === null) return;
    if (!this.isConnected() || !isMoving(shown.settings)) return;
    const following = new AbortController();
    this.followed = following;
    const began_ms = performance.now();
    let answer: DesiredDetails | null = null;
    try {
      answer = await waitForSettings(this.device, { wait_s: WAIT_S, seen: shown.revision }, following.signal);
    } catch {
      // The poller asks again, and reports the problem.
    }
    this.followed = null;
    if (answer === null || this.isClosed) return;
    // A hub with too many waiting requests answers at once, without news: the poller continues then.
    const isNews = answer.revision !== shown.revision || performance.now() - began_ms > WAIT_S * 500;
    if (isNews) this.show(answer);
  }
}
