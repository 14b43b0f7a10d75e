/** Routes of the page: the address determines what is shown. */

import { type ReadonlySignal, signal } from "@preact/signals";

export type Route =
  | { page: "fleet" }
  | { page: "flow" }
  | { page: "device"; device: string }
  | { page: "quarantine" }
  | { page: "mqtt" }
  | { page: "unknown" };

const current = signal<Route>(routeOf(window.location.pathname));
export const route: ReadonlySignal<Route> = current;

export function routeOf(path: string): Route {
  if (path === "/" || path === "/index.html") return { page: "fleet" };
  if (/^\/flow\/?$/.test(path)) return { page: "flow" };
  if (/^\/quarantine\/?$/.test(path)) return { page: "quarantine" };
  if (/^\/mqtt\/?$/.test(path)) return { page: "mqtt" };
  const device = /^\/device\/([^/]+)\/?$/.exec(path)?.[1];
  if (device === undefined) return { page: "unknown" };
  try {
    return { page: "device", device: decodeURIComponent(device) };
  } catch {
    return { page: "unknown" };
  }
}

export function devicePath(device: string): string {
  return `/device/${encodeURIComponent(device)}`;
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
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey)
      return;
    const link = (event.target as Element).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.origin !== window.location.origin) return;
    if (link.hasAttribute("download") || link.target !== "" || link.pathname.startsWith("/api/")) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
}
