/** The hub that serves this page: the session, the fleet and the live connection. */

import { effect, type Signal, signal } from "@preact/signals";
import { LiveConnection } from "../connection/live_connection";
import type { HubDetails } from "../wire/api";
import { hubUrl, webSocketUrl } from "../wire/base_path";
import { ApiError, checkConnection, fetchHub } from "./api";
import { FleetStore } from "./fleet";
import { Poller } from "./poller";
import { setHubTime } from "./time";

/** `unknown`: not known yet. `out`: not signed in. `unreachable`: the hub does not respond. */
type Session = "unknown" | "in" | "out" | "unreachable";

const RETRY_MS = 2000;
const INFO_PERIOD_MS = 5000;

export class Hub {
  readonly session: Signal<Session> = signal("unknown");
  readonly info: Signal<HubDetails | null> = signal(null);
  readonly fleet = new FleetStore();
  readonly connection = new LiveConnection(
    webSocketUrl(hubUrl(window.location), "/v1/live"),
    Math.random,
    checkConnection,
  );
  private opened = false;

  /** True if the role may change data. */
  get canOperate(): boolean {
    const role = this.info.value?.role;
    return role === "operator" || role === "admin";
  }

  /** True if the role may change tokens and metrics. */
  get canAdminister(): boolean {
    return this.info.value?.role === "admin";
  }

  /** Determine the session. After sign-in, open the live connection and keep it open. */
  async open(): Promise<void> {
    try {
      const info = await fetchHub();
      setHubTime(info.time_ns / 1e6);
      this.info.value = info;
      this.session.value = "in";
    } catch (error) {
      const refused = error instanceof ApiError && error.isRejection;
      this.session.value = refused ? "out" : "unreachable";
      if (!refused) window.setTimeout(() => void this.open(), RETRY_MS);
      return;
    }
    if (this.opened) return;
    this.opened = true;
    this.connection.open((welcome) => {
      setHubTime(welcome.time / 1e6);
      // A restarted hub may have another version or start time. If the connection is lost again, the next welcome
      // repeats both requests.
      void this.refreshInfo().then(
        () => this.load(),
        () => undefined,
      );
    }, this.fleet);
    const checkNow = () => {
      if (document.visibilityState === "visible") this.connection.checkNow();
    };
    window.addEventListener("online", checkNow);
    document.addEventListener("visibilitychange", checkNow);
    effect(() => {
      if (this.connection.status.value.state === "signed_out") this.session.value = "out";
    });
    new Poller(() => this.refreshInfo(), INFO_PERIOD_MS).start();
    await this.load();
  }

  private async refreshInfo(): Promise<void> {
    if (this.connection.status.peek().state === "live") this.info.value = await fetchHub();
  }

  private async load(): Promise<void> {
    try {
      await this.fleet.load();
    } catch {
      // Without the list, the live connection still sends the state of every device.
    }
  }
}

export const hub = new Hub();
