/** The path below which the hub serves this page: "/", or for example "/telemetry/" behind a proxy. */

/** Return the base path in the page's head, where the hub writes it. The development server writes none. */
function readBasePath(): string {
  if (typeof document === "undefined") return "/";
  const content = document.querySelector<HTMLMetaElement>('meta[name="base-path"]')?.content ?? "";
  return content.startsWith("/") ? content : "/";
}

/** Begins and ends with a slash. */
export const basePath = readBasePath();

/** Return the path on this server of a path within the hub, which begins with a slash. */
export function withBase(path: string, base = basePath): string {
  return `${base.slice(0, -1)}${path}`;
}

/** Return the path within the hub of a path on this server; a path elsewhere is returned as it is. */
export function withoutBase(path: string, base = basePath): string {
  if (path.startsWith(base)) return path.slice(base.length - 1);
  return path === base.slice(0, -1) ? "/" : path;
}

/** Return the URL of the hub for agents and other programs. */
export function hubUrl(location: Location): string {
  return `${location.origin}${basePath.slice(0, -1)}`;
}

/** Return the URL of a WebSocket endpoint of the hub at `url`. */
export function webSocketUrl(url: string, path: string): string {
  return `${url.replace(/^http/, "ws")}${path}`;
}
