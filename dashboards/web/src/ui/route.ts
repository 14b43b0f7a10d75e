/** Routes of the page: the address determines what is shown. */

import { type ReadonlySignal, signal } from "@preact/signals";
import { hub } from "../data/hub";
import { withBase, withoutBase } from "../wire/base_path";

/** Pages without parameters, with their titles and their paths within the hub. */
export const PAGES = [
  { page: "fleet", title: "Fleet", path: "/", icon: "fleet" },
  { page: "commands", title: "Commands", path: "/commands", icon: "send" },
  { page: "flow", title: "Flow", path: "/flow", icon: "flow" },
  { page: "quarantine", title: "Quarantine", path: "/quarantine", icon: "quarantine" },
  { page: "mqtt", title: "MQTT", path: "/mqtt", icon: "broker" },
  { page: "access", title: "Access", path: "/access", icon: "done" },
  { page: "tokens", title: "Tokens", path: "/tokens", icon: "key" },
  { page: "try", title: "Try it", path: "/try", icon: "table" },
  { page: "board", title: "Connect a board", path: "/board", icon: "board" },
] as const;

/** Pages that the navigation does not list. The hub sends a browser with an old one-time URL to `/sign-in`. */
export const OTHER_PAGES = [
  { page: "add", title: "Add a device", path: "/add" },
  { page: "new-job", title: "Send a command", path: "/commands/new" },
  { page: "sign-in", title: "Sign in", path: "/sign-in" },
] as const;

/** Return the pages for the role of the user and the settings of the hub. */
export function shownPages() {
  const info = hub.info.value;
  const hidden = {
    mqtt: info?.mqtt !== true,
    tokens: info?.role !== "admin",
    access: info?.role !== "admin" && info?.role !== "operator",
  } as Record<string, boolean>;
  return PAGES.filter(({ page }) => hidden[page] !== true);
}

/** Characters of a job's id in a title. */
const SHORT_ID = 8;

type Route =
  | { page: (typeof PAGES)[number]["page"] | (typeof OTHER_PAGES)[number]["page"] }
  | { page: "device"; device: string }
  | { page: "job"; job: string }
  | { page: "unknown" };

const current = signal<Route>(routeOf(window.location.pathname));
export const route: ReadonlySignal<Route> = current;

function routeOf(pathname: string): Route {
  const path = withoutBase(pathname);
  const known = [...PAGES, ...OTHER_PAGES].find((page) => page.path === (path.replace(/\/$/, "") || "/"));
  if (known !== undefined) return { page: known.page };
  if (path === "/index.html") return { page: "fleet" };
  const job = /^\/commands\/([0-9a-f]{16,32})\/?$/.exec(path)?.[1];
  if (job !== undefined) return { page: "job", job };
  const device = /^\/device\/([^/]+)\/?$/.exec(path)?.[1];
  if (device === undefined) return { page: "unknown" };
  try {
    return { page: "device", device: decodeURIComponent(device) };
  } catch {
    return { page: "unknown" };
  }
}

/** Return the title of the shown page; of a device it is its id. */
export function pageTitle(shown: Route): string {
  if (shown.page === "device") return shown.device;
  if (shown.page === "job") return `Job ${shown.job.slice(0, SHORT_ID)}`;
  return [...PAGES, ...OTHER_PAGES].find(({ page }) => page === shown.page)?.title ?? "Not found";
}

/** Return the page of the navigation above the shown one; null if there is none. */
export function parentPage(shown: Route): (typeof PAGES)[number] | null {
  const parents: Partial<Record<Route["page"], Route["page"]>> = {
    device: "fleet",
    job: "commands",
    "new-job": "commands",
  };
  return PAGES.find(({ page }) => page === parents[shown.page]) ?? null;
}

export function jobPath(job: string): string {
  return withBase(`/commands/${job}`);
}

/** Return the page that sends a command to a selection, with a chosen command. */
export function newJobPath(to: string[], name = ""): string {
  const query = new URLSearchParams([...to.map((term) => ["to", term]), ...(name === "" ? [] : [["name", name]])]);
  return withBase(`/commands/new${query.size > 0 ? `?${query}` : ""}`);
}

/** Return the page that sends the command of a job again: to its selection, or to the devices that did not succeed. */
export function repeatedJobPath(job: string, only: "unsuccessful" | "all" = "all"): string {
  return withBase(`/commands/new?from=${job}${only === "all" ? "" : `&only=${only}`}`);
}

export function devicePath(device: string): string {
  return withBase(`/device/${encodeURIComponent(device)}`);
}

export function navigate(path: string): void {
  history.pushState(null, "", path);
  current.value = routeOf(window.location.pathname);
  window.scrollTo(0, 0);
}

/** Handle links within the application without loading the page again. */
export function startRouting(): void {
  window.addEventListener("popstate", () => {
    current.value = routeOf(window.location.pathname);
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = (event.target as Element).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.origin !== window.location.origin) return;
    if (link.hasAttribute("download") || link.target !== "") return;
    if (/^\/(api|download)\//.test(withoutBase(link.pathname))) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}
