/**
 * Development hub inside the Vite server: implements the live protocol and the HTTP API with generated data, so
 * that the page runs without Python. A cookie selects the fleet: scenario=fleet, empty, one, many, extremes,
 * stress, signed-out, trouble.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Connect, Plugin } from "vite";
import { type WebSocket, WebSocketServer } from "ws";
import { SUBPROTOCOL } from "../src/wire/live";
import { respond } from "./api";
import { type DevDevice, SCENARIOS } from "./scenario";
import { conflation, Viewer } from "./viewer";

const fleets = new Map<string, DevDevice[]>();
const sockets = new Set<WebSocket>();
let downUntil = 0;

function scenarioOf(request: IncomingMessage): string {
  return /(?:^|;\s*)scenario=([a-z-]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "fleet";
}

function fleetOf(scenario: string): DevDevice[] {
  let fleet = fleets.get(scenario);
  if (fleet === undefined) {
    fleet = (SCENARIOS[scenario] ?? SCENARIOS.fleet)();
    fleets.set(scenario, fleet);
  }
  return fleet;
}

function serve(request: IncomingMessage, response: ServerResponse, next: Connect.NextFunction): void {
  const url = new URL(request.url ?? "/", "http://hub");
  if (url.pathname.startsWith("/__dev/")) {
    if (url.pathname === "/__dev/down") {
      downUntil = Date.now() + Number(url.searchParams.get("seconds") ?? 10) * 1000;
      for (const socket of sockets) socket.close(1012);
    } else if (url.pathname === "/__dev/conflate")
      conflation.readings = Number(url.searchParams.get("readings") ?? 1204);
    response.end("ok");
    return;
  }
  if (!url.pathname.startsWith("/api/")) {
    next();
    return;
  }
  const scenario = scenarioOf(request);
  let [status, body] = respond(request.method ?? "GET", url.pathname, url.searchParams, fleetOf(scenario), scenario);
  if (Date.now() < downUntil) [status, body] = [503, { detail: "unavailable for development" }];
  else if (scenario === "signed-out") [status, body] = [401, { title: "Not authenticated", detail: "sign in" }];
  response.writeHead(status, {
    "content-type": status < 400 ? "application/json" : "application/problem+json",
  });
  response.end(status === 204 ? undefined : JSON.stringify(body));
}

function upgrade(request: IncomingMessage, duplex: Duplex, head: Buffer): void {
  if (request.url !== "/v1/live") return;
  if (Date.now() < downUntil) {
    duplex.destroy();
    return;
  }
  const server = new WebSocketServer({ noServer: true, handleProtocols: () => SUBPROTOCOL });
  server.handleUpgrade(request, duplex, head, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    new Viewer(socket, fleetOf(scenarioOf(request)));
  });
}

/** Plugin for `vite` and `vite preview`; the build does not contain it. */
export function developmentHub(): Plugin {
  return {
    name: "development-hub",
    configureServer(server) {
      server.httpServer?.on("upgrade", upgrade);
      server.middlewares.use(serve);
    },
    configurePreviewServer(server) {
      server.httpServer.on("upgrade", upgrade);
      server.middlewares.use(serve);
    },
  };
}
