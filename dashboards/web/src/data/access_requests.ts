/** Devices without a token that wait for a decision about access. */

import { signal } from "@preact/signals";
import type { AccessRequestDetails } from "../wire/api";
import { fetchAccessRequests } from "./api";

/** The number of requests that wait, as the hub has answered last. */
export const waitingRequests = signal(0);

/** Load the requests that wait. Throws ApiError. */
export async function loadAccessRequests(): Promise<AccessRequestDetails[]> {
  const requests = await fetchAccessRequests();
  waitingRequests.value = requests.length;
  return requests;
}
