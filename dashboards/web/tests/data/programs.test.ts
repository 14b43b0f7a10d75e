import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { clientPrograms } from "../../src/data/programs";

const CLIENTS = new URL("../../../../docs/clients/", import.meta.url);
const TOKEN = "hub_device_x_y";

function program(language: string, url = "http://hub:8600", token: string | null = TOKEN) {
  const found = clientPrograms(url, "pump", token).find((known) => known.language === language);
  if (found === undefined) throw new Error(`there is no program in ${language}`);
  return found;
}

describe("clientPrograms", () => {
  it("are the files of docs/clients", () => {
    for (const [language, path] of [
      ["Python", "python/telemetry.py"],
      ["Node.js", "node/telemetry.mjs"],
      ["Java", "java/src/main/java/Telemetry.java"],
      ["Java server", "java-server/src/main/java/TelemetryServer.java"],
      ["Go", "go/main.go"],
      ["curl", "curl/telemetry.sh"],
    ])
      expect(program(language).files[0].text).toBe(readFileSync(new URL(path, CLIENTS), "utf-8"));
  });

  it("have commands with the address of the hub and the token, or a placeholder for it", () => {
    const python = program("Python", "https://hub.example/plant");
    expect(python.commands[0].split("\n")).toEqual([
      "pip install websocket-client",
      `echo '{"temperature": 21.5}' | HUB_URL=wss://hub.example/plant/v1/plain HUB_TOKEN=${TOKEN} python3 telemetry.py`,
    ]);
    expect(program("curl").commands[0]).toContain(`-H "Authorization: Bearer ${TOKEN}"`);
    expect(program("curl").commands[1]).toContain("HUB_URL=http://hub:8600/api/v1/readings");
    for (const { language } of clientPrograms("http://hub:8600", "pump", null)) {
      const { commands, files } = program(language, "http://hub:8600", null);
      expect(commands.join() + files[0].text).toContain("YOUR-TOKEN");
    }
  });

  it("let the agent read the server", () => {
    expect(program("Java server").commands[1]).toBe(
      `HUB_TOKEN=${TOKEN} telemetry-agent/bin/device-agent websocket ws://127.0.0.1:8025/readings --hub http://hub:8600 --device pump`,
    );
  });

  it("fill the address and the token into the page and the sketch", () => {
    expect(program("Browser").files[0].text).toContain('value="ws://hub:8600/v1/plain"');
    const sketch = program("Arduino, ESP").files[0].text;
    expect(sketch).toContain('hub.begin("hub", 8600, "/v1/plain", "telemetry.plain");');
    expect(sketch).toContain(`hub.setAuthorization("Bearer ${TOKEN}");`);
    expect(program("Arduino, ESP", "https://hub.example/plant").files[0].text).toContain(
      'hub.beginSSL("hub.example", 443, "/plant/v1/plain", nullptr, "telemetry.plain");',
    );
  });
});
