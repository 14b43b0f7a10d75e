import { describe, expect, it } from "vitest";
import { basePath, webSocketUrl, withBase, withoutBase } from "../../src/wire/base_path";

describe("base path", () => {
  it("is the root without a page", () => {
    expect(basePath).toBe("/");
  });

  it("is put before a path and removed from it", () => {
    for (const base of ["/", "/telemetry/", "/a/b/"])
      for (const path of ["/", "/flow", "/device/a%2Fb", "/telemetry/", "/api/v1/hub?x=/"])
        expect(withoutBase(withBase(path, base), base)).toBe(path);
    expect(withBase("/flow", "/telemetry/")).toBe("/telemetry/flow");
    expect(withBase("/", "/")).toBe("/");
  });

  it("may lack its last slash, and a path elsewhere stays as it is", () => {
    expect(withoutBase("/telemetry", "/telemetry/")).toBe("/");
    expect(withoutBase("/telemetryx/flow", "/telemetry/")).toBe("/telemetryx/flow");
    expect(withoutBase("/flow", "/telemetry/")).toBe("/flow");
  });

  it("is kept in the URL of a WebSocket, which is secure as the page is", () => {
    expect(webSocketUrl("http://hub.example:8600", "/v1/live")).toBe("ws://hub.example:8600/v1/live");
    expect(webSocketUrl("https://hub.example/telemetry", "/v1/plain")).toBe("wss://hub.example/telemetry/v1/plain");
  });
});
