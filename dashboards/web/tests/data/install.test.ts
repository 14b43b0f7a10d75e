import { describe, expect, it } from "vitest";
import {
  agentCommands,
  influxdbWriters,
  installCommands,
  isDeviceId,
  mqttSettings,
  ownAuthorityHint,
  unusedDeviceId,
} from "../../src/data/install";

const download = {
  file: "telemetry_hub-1.2.3-py3-none-any.whl",
  path: "/download/telemetry_hub-1.2.3-py3-none-any.whl",
  sha256: "ab12",
  size_bytes: 1,
  requires_python: ">=3.11",
  libraries: 0,
};

describe("installCommands", () => {
  it("names the file of this hub with its hash, and no package", () => {
    const [environment, install] = installCommands("https://hub.example/plant", download).split("\n");
    expect(environment).toBe("python3 -m venv telemetry-agent");
    expect(install).toBe(
      "telemetry-agent/bin/pip install https://hub.example/plant/download/telemetry_hub-1.2.3-py3-none-any.whl#sha256=ab12",
    );
  });
});

describe("installCommands with libraries on the hub", () => {
  it("needs no package index", () => {
    expect(installCommands("https://hub.example", { ...download, libraries: 13 }).split("\n")[1]).toMatch(
      /^telemetry-agent\/bin\/pip install --no-index --find-links https:\/\/hub\.example\/download\/ https:\/\/hub/,
    );
  });
});

describe("agentCommands", () => {
  it("are for sensors, a serial line and a program, with the token or a placeholder for it", () => {
    const [sensors, serial, program] = agentCommands("http://hub:8600", "pump", "hub_device_x_y").map(
      ({ text }) => text,
    );
    const agent = "telemetry-agent/bin/device-agent";
    const rest = "--hub http://hub:8600 --device pump";
    expect(sensors).toBe(`HUB_TOKEN=hub_device_x_y ${agent} run ${rest}`);
    expect(serial).toBe(`HUB_TOKEN=hub_device_x_y ${agent} serial /dev/ttyUSB0 ${rest}`);
    expect(program).toContain('Agent("http://hub:8600", device="pump", token="hub_device_x_y", spool="pump.spool")');
    for (const { text } of agentCommands("http://hub:8600", "pump", null)) expect(text).toContain("YOUR-TOKEN");
  });
});

describe("influxdbWriters", () => {
  it("name the device as the host of Telegraf, and leave it to the token elsewhere", () => {
    const [telegraf, python, curl] = influxdbWriters("http://hub:8600", "pump", "hub_device_x_y").map(
      ({ text }) => text,
    );
    expect(telegraf).toContain('hostname = "pump"');
    expect(telegraf).toContain('urls = ["http://hub:8600"]');
    expect(python).toContain('InfluxDBClient(url="http://hub:8600", token="hub_device_x_y", org="any")');
    expect(curl).toContain('"http://hub:8600/api/v2/write?bucket=any"');
    for (const { text } of influxdbWriters("http://hub:8600", "pump", null)) expect(text).toContain("YOUR-TOKEN");
  });
});

describe("mqttSettings", () => {
  it("shows the topic of the device", () => {
    expect(mqttSettings("pump")).toContain("# sensors/pump/temperature");
  });
});

describe("ownAuthorityHint", () => {
  it("gives pip the authority only if it asks no package index", () => {
    const url = "https://hub.example";
    expect(ownAuthorityHint(url, { ...download, libraries: 13 })[0]).toContain("pip install --cert ca.pem");
    const [install, agent] = ownAuthorityHint(url, download);
    expect(install.split("\n")).toEqual([
      "curl --cacert ca.pem --remote-name https://hub.example/download/telemetry_hub-1.2.3-py3-none-any.whl",
      "telemetry-agent/bin/pip install ./telemetry_hub-1.2.3-py3-none-any.whl",
    ]);
    expect(agent).toContain("--ca ca.pem");
  });
});

describe("unusedDeviceId", () => {
  it("returns the first id that no device has", () => {
    expect(unusedDeviceId(new Map())).toBe("my-device");
    const devices = new Map([
      ["my-device", 1],
      ["my-device-2", 2],
    ]);
    expect(unusedDeviceId(devices)).toBe("my-device-3");
  });
});

describe("isDeviceId", () => {
  it("accepts what the hub accepts", () => {
    for (const id of ["a", "boiler-1", "A_b.c", "x".repeat(64)]) expect(isDeviceId(id)).toBe(true);
    for (const id of ["", ".", "..", "a b", "ä", "a/b", "x".repeat(65)]) expect(isDeviceId(id)).toBe(false);
  });
});
