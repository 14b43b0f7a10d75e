/** The one hub that this page belongs to: who we are to it, its fleet, and the live connection. */

import { effect, type Signal, signal } from "@preact/signals";
import { LiveConnection } from "../connection/live_connection";
import { liveUrl } from "../connection/socket";
import { ApiError, fetchHub, type HubInfo } from "./api";
import { FleetStore } from "./fleet";
import { setHubTime } from "./hub_clock";
import { poll } from "./polling";

/** `asking`: not known yet. `out`: nobody is signed in. `unreachable`: the page is here, the hub is not. */
export type Session = "asking" | "in" | "out" | "unreachable";

const ASK_AGAIN_MS = 2000;

export class Hub {
  readonly session: Signal<Session> = signal("asking");
  readonly info: Signal<HubInfo | null> = signal(null);
  readonly fleet = new FleetStore();
  readonly connection = new LiveConnection(liveUrl(window.location));
  private opened = false;

  /** Finds out who we are; signed in, the connection opens and stays open. */
  async open(): Promise<void> {
    try {
      const info = await fetchHub();
      setHubTime(info.time_ns / 1e6);
      this.info.value = info;
      this.session.value = "in";
    } catch (error) {
      const refused = error instanceof ApiError && (error.status === 401 || error.status === 403);
      this.session.value = refused ? "out" : "unreachable";
      if (!refused) window.setTimeout(() => void this.open(), ASK_AGAIN_MS);
      return;
    }
    if (this.opened) return;
    this.opened = true;
    this.connection.open((welcome) => {
      setHubTime(welcome.time / 1e6);
      // A hub that was started anew has another version or start time: the header tells them.
      void this.refresh();
    }, this.fleet);
    const wake = () => {
      if (document.visibilityState === "visible") this.connection.wake();
    };
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    effect(() => {
      if (this.connection.status.value.state === "signed_out") this.session.value = "out";
    });
    poll(() => this.look());
    await this.load();
  }

  /** Whether the hub can do its work. */
  private async look(): Promise<void> {
    if (this.connection.status.value.state !== "live") return;
    this.info.value = await fetchHub();
  }

  private async refresh(): Promise<void> {
    try {
      this.info.value = await fetchHub();
      await this.load();
    } catch {
      // The connection broke again; its next welcome asks anew.
    }
  }

  private async load(): Promise<void> {
    try {
      await this.fleet.load();
    } catch {
      // Without the list the live connection still brings every device's state.
    }
  }
}

export const hub = new Hub();
