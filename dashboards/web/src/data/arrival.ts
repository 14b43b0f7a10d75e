/** Why the first reading of a device has not arrived: what the hub has refused since the page was opened. */

import type { QuarantinePage, RefusalsAnswer, RefusedClient } from "../wire/api";
import { request } from "./api";
import { plural } from "./number_format";

/** Paths to which devices send. The page's own requests are no attempts of a device. */
const DEVICE_PATHS = ["/v1/device", "/v1/plain", "/v1/line", "/api/v1/readings", "/api/v2/write", "/write"];

export async function fetchRefusals(): Promise<RefusedClient[]> {
  return [...(await request<RefusalsAnswer>("GET", "/refusals")).refusals];
}

/** Load the newest entry in quarantine of a device. */
export function fetchNewestQuarantined(device: string): Promise<QuarantinePage> {
  return request("GET", `/quarantine?${new URLSearchParams({ device, limit: "1" })}`);
}

/** Return the attempts of devices that were refused after `before`, with the count since then. A restarted hub begins at 0. */
export function refusedSince(before: RefusedClient[], now: RefusedClient[]): RefusedClient[] {
  const keyOf = ({ code, peer, path }: RefusedClient) => `${code}\n${peer}\n${path}`;
  const known = new Map(before.map((client) => [keyOf(client), client.count]));
  return now
    .filter(({ path }) => path === "" || DEVICE_PATHS.includes(path))
    .map((client) => {
      const earlier = known.get(keyOf(client)) ?? 0;
      return { ...client, count: client.count < earlier ? client.count : client.count - earlier };
    })
    .filter(({ count }) => count > 0);
}

/** Return a refusal as a sentence without its end. */
export function describeRefusal({ count, peer, path, reason }: RefusedClient): string {
  const where = path === "" ? "" : ` at ${path}`;
  const why = reason === "" ? "" : `: ${reason}`;
  return `${plural(count, "attempt")} from ${peer || "an unknown address"}${where} ${count === 1 ? "was" : "were"} refused${why}`;
}
