/** Commands that install and start the agent on a device. */

import type { DownloadDetails } from "../wire/api";

/** Folder of the agent's Python environment, below the folder in which the commands are run. */
const FOLDER = "telemetry-agent";
/** Stands in commands for a token that was not created yet. */
export const TOKEN_PLACEHOLDER = "YOUR-TOKEN";

/**
 * Return the commands that install the agent from the hub at `url`. pip rejects a file with another hash. The package
 * is named by its address: a name alone would be looked up in a package index, where anybody could register it. With
 * libraries on the hub, no index is needed.
 */
export function installCommands(url: string, { path, sha256, libraries }: DownloadDetails): string {
  const options = libraries > 0 ? `--no-index --find-links ${url}/download/ ` : "";
  return `python3 -m venv ${FOLDER}\n${FOLDER}/bin/pip install ${options}${url}${path}#sha256=${sha256}`;
}

/** Ways to send readings, with the command or the program of each. */
export interface AgentCommand {
  readings: string;
  text: string;
}

/** Return the command that creates the token of a device on the machine of the hub. */
export function tokenCommand(device: string): string {
  return `hub token create --role device --device ${device}`;
}

/** Return the command that runs an agent for the hub at `url`; `start` is its subcommand. */
export function agentCommand(url: string, device: string, token: string | null, start: string): string {
  return `HUB_TOKEN=${token ?? TOKEN_PLACEHOLDER} ${FOLDER}/bin/device-agent ${start} --hub ${url} --device ${device}`;
}

/** Return the commands that run the agent of a device. Without a token they contain a placeholder. */
export function agentCommands(url: string, device: string, token: string | null): AgentCommand[] {
  const secret = token ?? TOKEN_PLACEHOLDER;
  const command = (start: string) => agentCommand(url, device, token, start);
  const program = [
    "import asyncio",
    "from device_agent import Agent",
    "",
    "async def main():",
    `    async with Agent("${url}", device="${device}", token="${secret}", spool="${device}.spool") as agent:`,
    '        await agent.send({"temperature": 21.5})',
    "",
    "asyncio.run(main())",
  ];
  return [
    {
      readings: "The sensors of the computer: processors, memory, disks, networks, temperatures.",
      text: command("run"),
    },
    {
      readings: "Lines that a device writes to a serial port: JSON, CSV, NMEA and others.",
      text: command("serial /dev/ttyUSB0"),
    },
    {
      readings: `The data of your own program, which ${FOLDER}/bin/python runs.`,
      text: program.join("\n"),
    },
  ];
}

/** Return the lines of the hub's settings with which it reads what a device publishes to a broker. */
export function mqttSettings(device: string): string {
  const topic = `sensors/{device}/{metric}`;
  return [
    "[[mqtt]]",
    'url = "mqtt://localhost:1883"',
    `subscribe = [{ topic = "${topic}", payload = "value" }]  # sensors/${device}/temperature`,
  ].join("\n");
}

/** Return the settings with which programs that write to InfluxDB write to the hub at `url`, as one device. */
export function influxdbWriters(url: string, device: string, token: string | null): AgentCommand[] {
  const secret = token ?? TOKEN_PLACEHOLDER;
  const telegraf = [
    "[agent]",
    `  hostname = "${device}"`,
    "[[outputs.influxdb_v2]]",
    `  urls = ["${url}"]`,
    `  token = "${secret}"`,
    '  organization = "any"',
    '  bucket = "any"',
  ];
  const python = [
    "from influxdb_client import InfluxDBClient, Point",
    "from influxdb_client.client.write_api import SYNCHRONOUS",
    "",
    `with InfluxDBClient(url="${url}", token="${secret}", org="any") as client:`,
    "    write_api = client.write_api(write_options=SYNCHRONOUS)",
    '    write_api.write(bucket="any", record=Point("room").field("temperature", 21.5))',
  ];
  const curl = `curl -H "Authorization: Token ${secret}" -d 'room temperature=21.5' "${url}/api/v2/write?bucket=any"`;
  return [
    { readings: "Telegraf, in telegraf.conf. The name of its host is that of the device.", text: telegraf.join("\n") },
    {
      readings: "Python, with influxdb-client. The clients for other languages take the same address.",
      text: python.join("\n"),
    },
    { readings: "curl.", text: curl },
  ];
}

/**
 * Return what an own authority changes in the commands: pip and the agent trust those of the system. pip's option
 * replaces the authorities of the package index, too, so that it only fits a hub that has the libraries.
 */
export function ownAuthorityHint(url: string, { path, libraries }: DownloadDetails): string[] {
  const pip =
    libraries > 0
      ? `${FOLDER}/bin/pip install --cert ca.pem …`
      : `curl --cacert ca.pem --remote-name ${url}${path}\n${FOLDER}/bin/pip install ./${path.split("/").at(-1)}`;
  return [pip, `${FOLDER}/bin/device-agent run --ca ca.pem …`];
}

/** Return an id to begin with that no device has: two agents with one id would disconnect each other. */
export function unusedDeviceId(devices: Pick<ReadonlyMap<string, unknown>, "has">): string {
  for (let number = 1; ; number++) {
    const id = number === 1 ? "my-device" : `my-device-${number}`;
    if (!devices.has(id)) return id;
  }
}

/** The rule of `isDeviceId` as a sentence, the same on every page. */
export const DEVICE_ID_RULE = "A device id has 1 to 64 letters, digits, “.”, “_” or “-”, and is not “.” or “..”.";

/** Return whether a text is a valid device id. */
export function isDeviceId(text: string): boolean {
  return /^[A-Za-z0-9_.-]{1,64}$/.test(text) && text !== "." && text !== "..";
}
