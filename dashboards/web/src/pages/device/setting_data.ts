/** The settings of the open device: as it declares and reports them, and the desired values. */

import { type Signal, signal } from "@preact/signals";
import { changeSettings, fetchSettings, waitForSettings } from "../../data/api";
import type { ParameterValue } from "../../data/commands";
import { Follower, WAIT_S, type Waiting } from "../../data/follower";
import { isMoving } from "../../data/settings";
import type { DesiredDetails } from "../../wire/api";

export class DeviceSettings {
  /** null until the hub has answered. */
  readonly details: Signal<DesiredDetails | null> = signal(null);
  readonly follower: Follower<DesiredDetails>;
  private readonly device: string;
  private readonly isConnected: () => boolean;

  constructor(device: string, isConnected: () => boolean) {
    this.device = device;
    this.isConnected = isConnected;
    this.follower = new Follower({
      load: async () => this.show(await fetchSettings(this.device)),
      next: () => this.waiting(),
      receive: (answer) => this.show(answer),
    });
  }

  /** True after the hub has answered, or failed to. */
  get isSettled(): boolean {
    return this.details.value !== null || this.follower.problem.value !== null;
  }

  /** Desire a value, or none with null. Throws ApiError, also if somebody else has changed the values since `version`. */
  async change(name: string, value: ParameterValue | null, version: number): Promise<void> {
    this.show(await changeSettings(this.device, { [name]: value }, version));
    void this.follower.follow();
  }

  /** Show an answer, unless a newer one has come before it. */
  private show(answer: DesiredDetails): void {
    const shown = this.details.peek();
    const isNewer =
      shown === null || answer.version > shown.version || (answer.reported_ns ?? 0) >= (shown.reported_ns ?? 0);
    if (isNewer && JSON.stringify(answer) !== JSON.stringify(shown)) this.details.value = answer;
  }

  /** Return the request that waits for the next report, while a value waits for the device. */
  private waiting(): Waiting<DesiredDetails> | null {
    const shown = this.details.peek();
    if (shown === null || !this.isConnected() || !isMoving(shown.settings)) return null;
    return {
      key: "settings",
      request: (signal) => waitForSettings(this.device, { wait_s: WAIT_S, seen: shown.revision }, signal),
      isNews: ({ revision }) => revision !== shown.revision,
    };
  }
}
