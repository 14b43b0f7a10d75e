/** The HTTP API of the hub, /api/v1, as the page uses it. Times are nanoseconds since 1970 UTC. */

import type { Probe } from "../connection/diagnosis";
import type {
  AccessRequestDetails,
  AccessRequestsAnswer,
  BridgesAnswer,
  ChangedMetric,
  CommandDetails,
  CommandJobDetails,
  CommandJobDryRun,
  CommandJobRequest,
  CommandJobsPage,
  CommandJobTarget,
  CommandJobTargetsPage,
  CommandRequest,
  CommandsPage,
  CommonCommands,
  ConnectionCheck,
  CreatedToken,
  DeclaredCommand,
  DeclaredCommands,
  DesiredDetails,
  DeviceDetails,
  DevicesPage,
  DownloadDetails,
  EventDetails,
  EventsPage,
  FlowDetails,
  HistoryAnswer,
  HubDetails,
  MetricChangeRequest,
  PresenceInterval,
  PresenceTimeline,
  SessionDetails,
  TokenDetails,
  TokenReplacement,
  TokenRequest,
} from "../wire/api";
import { withBase } from "../wire/base_path";
import type { TimeRange } from "./time";

/** An error answer of the hub; `detail` is its explanation, `code` names the error. Status 0: the hub did not respond. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, detail: string, code = "") {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }

  /** True if the hub rejects the caller: the token is missing, unknown, revoked, or of another role. */
  get isRejection(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

/** Return the message of an error for the page. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const BASE = withBase("/api/v1");
const JOBS = "/command-jobs";

/** Send one API request. Throws ApiError. */
export async function request<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
  const response = await sendRequest(method, path, body, signal);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function sendRequest(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`${BASE}${path}`, {
      method,
      signal,
      credentials: "same-origin",
      headers: body === undefined ? { accept: "application/json" } : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The hub does not respond.");
  }
  if (!response.ok) {
    const { detail, code } = await problemOf(response);
    throw new ApiError(response.status, detail ?? `The hub answered with status ${response.status}.`, code);
  }
  return response;
}

/** Return the sentence and the code of the hub's problem document; null and "" if the answer is no such document. */
async function problemOf(response: Response): Promise<{ detail: string | null; code: string }> {
  try {
    const problem = (await response.json()) as { detail?: unknown; title?: unknown; code?: unknown };
    const code = typeof problem.code === "string" ? problem.code : "";
    for (const text of [problem.detail, problem.title])
      if (typeof text === "string" && text !== "") return { detail: text, code };
  } catch {
    // Not JSON: the status is the explanation.
  }
  return { detail: null, code: "" };
}

/** A proxy may hold the request of a hub that starts; the next attempt asks again. */
const CHECK_WITHIN_MS = 5000;

/** Ask what the live endpoint would answer to this page. Never rejects. */
export async function checkConnection(): Promise<Probe> {
  try {
    const response = await fetch(`${BASE}/connection-check`, {
      method: "POST",
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(CHECK_WITHIN_MS),
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ path: "/v1/live" }),
    });
    if (response.type === "opaqueredirect") return { kind: "redirect" };
    if (!response.ok) return { kind: "refused", status: response.status, detail: (await problemOf(response)).detail };
    const check = (await response.json().catch(() => ({}))) as Partial<ConnectionCheck>;
    const { code, reason = "", remedy = "" } = check;
    // A proxy may answer any path with a page of its own.
    return code === undefined
      ? { kind: "refused", status: response.status, detail: null }
      : { kind: "checked", check: { code, reason, remedy } };
  } catch {
    return { kind: "silent" };
  }
}

/** Convert milliseconds to nanoseconds as digits: a number would lose precision or be written with an exponent. */
function nanosecondsOf(time_ms: number): string {
  return String(BigInt(Math.round(time_ms * 1000)) * 1000n);
}

export function fetchHub(): Promise<HubDetails> {
  return request("GET", "/hub");
}

/** Load a whole list, page by page. `key` is the name of the list in each answer. */
async function fetchList<T, K extends string>(path: string, key: K): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor === null ? "" : `${path.includes("?") ? "&" : "?"}${new URLSearchParams({ cursor })}`;
    const page: Record<K, T[]> & { next: string | null } = await request("GET", `${path}${query}`);
    items.push(...page[key]);
    cursor = page.next;
  } while (cursor !== null);
  return items;
}

export function fetchDevices(): Promise<DeviceDetails[]> {
  return fetchList("/devices", "devices");
}

/** Load the devices that are out of service. */
export function fetchRetiredDevices(): Promise<DeviceDetails[]> {
  return fetchList("/devices?retired=true", "devices");
}

export async function hasRetiredDevices(): Promise<boolean> {
  return (await request<DevicesPage>("GET", "/devices?retired=true&limit=1")).devices.length > 0;
}

/** Load the accounting of at most this many devices. Devices that do not balance come first. */
export function fetchFlow(devices: number): Promise<FlowDetails> {
  return request("GET", `/flow?limit=${devices}`);
}

export function fetchBridges(): Promise<BridgesAnswer> {
  return request("GET", "/mqtt");
}

export function fetchDevice(device: string): Promise<DeviceDetails> {
  return request("GET", `/devices/${encodeURIComponent(device)}`);
}

/** Change the name, type, unit or description of a metric. Throws ApiError. */
export function changeMetric(device: string, change: MetricChangeRequest): Promise<ChangedMetric> {
  return request("PATCH", `/devices/${encodeURIComponent(device)}/metrics`, change);
}

/** Take a device out of service. Throws ApiError. */
export function retireDevice(device: string): Promise<void> {
  return request("POST", "/devices/retire", { devices: [device] });
}

export async function fetchEvents(device: string, limit: number): Promise<EventDetails[]> {
  const path = `/devices/${encodeURIComponent(device)}/events?limit=${limit}`;
  return (await request<EventsPage>("GET", path)).events;
}

/** Return the connection timeline of a device, newest first. */
export async function fetchPresence(device: string): Promise<PresenceInterval[]> {
  return (await request<PresenceTimeline>("GET", `/devices/${encodeURIComponent(device)}/presence`)).intervals;
}

/** Return the commands that a device declares. */
export async function fetchDeclaredCommands(device: string): Promise<DeclaredCommand[]> {
  return (await request<DeclaredCommands>("GET", `${commandsPath(device)}/declared`)).commands;
}

/** Return commands of a device, newest first; those after the `next` of an earlier answer with `cursor`. */
export function fetchCommands(device: string, limit: number, cursor: string | null = null): Promise<CommandsPage> {
  const query = new URLSearchParams({ limit: String(limit), ...(cursor !== null && { cursor }) });
  return request("GET", `${commandsPath(device)}?${query}`);
}

/** Wait until a command has more than `seen` states or the time has passed, and return it. */
export function waitForCommand(
  { device, id }: Pick<CommandDetails, "device" | "id">,
  { wait_s, seen }: { wait_s: number; seen: number },
  signal: AbortSignal,
): Promise<CommandDetails> {
  return request("GET", `${commandsPath(device)}/${id}?wait_s=${wait_s}&seen=${seen}`, undefined, signal);
}

/** A command to send. The generated type has no values for the parameters. */
export type NewCommand = Omit<CommandRequest, "parameters"> & { parameters: CommandDetails["parameters"] };

/** Send a command. Throws ApiError, with a code of the hub if it refuses the command. */
export function sendCommand(device: string, command: NewCommand): Promise<CommandDetails> {
  return request("POST", commandsPath(device), command);
}

/** Take back a command that is not sent yet. Throws ApiError. */
export function cancelCommand({ device, id }: Pick<CommandDetails, "device" | "id">): Promise<CommandDetails> {
  return request("POST", `${commandsPath(device)}/${id}/cancel`);
}

/** Return jobs, newest first; those after the `next` of an earlier answer with `cursor`. */
export function fetchJobs(limit: number, cursor: string | null = null): Promise<CommandJobsPage> {
  const query = new URLSearchParams({ limit: String(limit), ...(cursor !== null && { cursor }) });
  return request("GET", `${JOBS}?${query}`);
}

export function fetchJob(id: string): Promise<CommandJobDetails> {
  return request("GET", `${JOBS}/${id}`);
}

/** Wait until more than `seen` targets of a job have ended, the job has ended or the time has passed, and return it. */
export function waitForJob(
  id: string,
  { wait_s, seen }: { wait_s: number; seen: number },
  signal: AbortSignal,
): Promise<CommandJobDetails> {
  return request("GET", `${JOBS}/${id}?wait_s=${wait_s}&seen=${seen}`, undefined, signal);
}

/** Return the first targets of a job in these states, all without one, in the order of batches. */
export function fetchJobTargets(
  id: string,
  states: CommandJobTarget["state"][],
  limit: number,
): Promise<CommandJobTargetsPage> {
  const query = new URLSearchParams([["limit", String(limit)], ...states.map((state) => ["state", state])]);
  return request("GET", `${JOBS}/${id}/targets?${query}`);
}

/** End a job: no further command is sent. Throws ApiError. */
export function cancelJob(id: string): Promise<CommandJobDetails> {
  return request("POST", `${JOBS}/${id}/cancel`);
}

/** Return the commands that the devices of a selection declare, each with their number. */
export function fetchCommonCommands(to: string[], signal: AbortSignal): Promise<CommonCommands> {
  const query = new URLSearchParams(to.map((term) => ["to", term]));
  return request("GET", `${JOBS}/declared?${query}`, undefined, signal);
}

/** A command to send to many devices. The generated type has no values for the parameters. */
export type NewJob = Omit<CommandJobRequest, "parameters"> & { parameters: CommandDetails["parameters"] };

/** Return the devices that a job would have, and which of them the hub would refuse now. Throws ApiError. */
export function tryJob(job: NewJob): Promise<CommandJobDryRun> {
  return request("POST", `${JOBS}/dry-run`, job);
}

/** Send a command to many devices; a repeated request with its `id` is the same job. Throws ApiError. */
export function createJob(job: NewJob): Promise<CommandJobDetails> {
  return request("POST", JOBS, job);
}

/** Return the settings of a device: declared, desired and reported. */
export function fetchSettings(device: string): Promise<DesiredDetails> {
  return request("GET", desiredPath(device));
}

/** Wait until the settings have another `revision` than `seen` or the time has passed, and return them. */
export function waitForSettings(
  device: string,
  { wait_s, seen }: { wait_s: number; seen: string },
  signal: AbortSignal,
): Promise<DesiredDetails> {
  return request(
    "GET",
    `${desiredPath(device)}?${new URLSearchParams({ wait_s: String(wait_s), seen })}`,
    undefined,
    signal,
  );
}

/** Change desired values; null: no value is desired any more. Throws ApiError, also for another version. */
export function changeSettings(
  device: string,
  values: Record<string, number | boolean | string | null>,
  expected_version: number,
): Promise<DesiredDetails> {
  return request("PATCH", desiredPath(device), { values, expected_version });
}

function desiredPath(device: string): string {
  return `/devices/${encodeURIComponent(device)}/desired`;
}

function commandsPath(device: string): string {
  return `/devices/${encodeURIComponent(device)}/commands`;
}

/** Return the events of the hub itself. */
export async function fetchHubEvents(limit: number): Promise<EventDetails[]> {
  return (await request<EventsPage>("GET", `/events?limit=${limit}`)).events;
}

/**
 * Return the path of a history request. With 0 points the hub returns every reading of the range, or rejects the
 * request if there are too many.
 */
export function historyPath(
  device: string,
  metrics: string[],
  { from, to, points, format }: TimeRange & { points: number; format?: "csv" },
): string {
  const query = new URLSearchParams({ device });
  for (const metric of metrics) query.append("metric", metric);
  query.set("from", nanosecondsOf(from));
  query.set("to", nanosecondsOf(to));
  query.set("points", String(Math.round(points)));
  if (format !== undefined) query.set("format", format);
  return `/history?${query}`;
}

export function fetchHistory(
  device: string,
  metrics: string[],
  range: TimeRange & { points: number },
  signal?: AbortSignal,
): Promise<HistoryAnswer> {
  return request("GET", historyPath(device, metrics, range), undefined, signal);
}

/** Load every reading of the range as CSV. Throws ApiError, also for an incomplete answer. */
export async function fetchCsv(device: string, metrics: string[], timeRange: TimeRange): Promise<Blob> {
  const response = await sendRequest("GET", historyPath(device, metrics, { ...timeRange, points: 0, format: "csv" }));
  try {
    return await response.blob();
  } catch {
    throw new ApiError(0, "The connection was lost before the download was complete.");
  }
}

export function signIn(token: string): Promise<void> {
  return request("POST", "/session", { token });
}

export function signOut(): Promise<void> {
  return request("DELETE", "/session");
}

/** Load the description of the file from which devices install the agent. */
export function fetchDownload(): Promise<DownloadDetails> {
  return request("GET", "/download");
}

export function fetchTokens(): Promise<TokenDetails[]> {
  return fetchList("/tokens", "tokens");
}

export function revokeToken(id: string): Promise<void> {
  return request("DELETE", `/tokens/${encodeURIComponent(id)}`);
}

export async function fetchAccessRequests(): Promise<AccessRequestDetails[]> {
  return (await request<AccessRequestsAnswer>("GET", "/access-requests")).requests;
}

export function decideAccess(code: string, decision: "approve" | "refuse"): Promise<void> {
  return request("POST", `/access-requests/${encodeURIComponent(code)}/${decision}`);
}

export function rotateToken(id: string, overlap_s: number): Promise<TokenReplacement> {
  return request("POST", `/tokens/${encodeURIComponent(id)}/rotate`, { overlap_s });
}

export function fetchSessions(): Promise<SessionDetails[]> {
  return fetchList("/sessions", "sessions");
}

export function endSession(id: string): Promise<void> {
  return request("DELETE", `/sessions/${encodeURIComponent(id)}`);
}

export function createToken(body: TokenRequest): Promise<CreatedToken> {
  return request("POST", "/tokens", body);
}
