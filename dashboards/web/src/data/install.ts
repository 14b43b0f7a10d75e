/** Commands that install and start the agent on a device. */

import type { DownloadDetails } from "../wire/api";

/** Folder of the agent's Python environment, below the folder in which the commands are run. */
const FOLDER = "telemetry-agent";
const PLACEHOLDER = "YOUR-TOKEN";

/**
 * Return the commands that install the agent from the hub at `url`. pip rejects a file with another hash. The package
 * is named by its address: a name alone would be looked up in a package index, where anybody could register it. With
 * libraries on the hub, no index is needed.
 */
export function installCommands(url: string, { path, sha256, libraries }: DownloadDetails): string {
  const options = libraries > 0 ? `--no-index --find-links ${url}/download/ ` : "";
  return `python3 -m venv ${FOLDER}\n${FOLDER}/bin/pip install ${options}${url}${path}#sha256=${sha256}`;
}

/** Return the command that runs the agent of a device. Without a token it contains a placeholder. */
export function agentCommand(url: string, device: string, token: string | null): string {
  return `HUB_TOKEN=${token ?? PLACEHOLDER} ${FOLDER}/bin/device-agent run --hub ${url} --device ${device}`;
}

/** Return an id to begin with that no device has: two agents with one id would disconnect each other. */
export function unusedDeviceId(devices: Pick<ReadonlyMap<string, unknown>, "has">): string {
  for (let number = 1; ; number++) {
    const id = number === 1 ? "my-device" : `my-device-${number}`;
    if (!devices.has(id)) return id;
  }
}

/** Return whether a text is a valid device id. */
export function isDeviceId(text: string): boolean {
  return /^[A-Za-z0-9_.-]{1,64}$/.test(text) && text !== "." && text !== "..";
}
