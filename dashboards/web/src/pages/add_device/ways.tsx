/** Ways by which a device can send, with what to do for each. */

import { Fragment, type JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { SERIAL_BROWSERS } from "../../agent/serial";
import { errorText, fetchDownload } from "../../data/api";
import { agentCommands, influxdbWriters, installCommands, mqttSettings, ownAuthorityHint } from "../../data/install";
import { clientPrograms, type ProgramFile } from "../../data/programs";
import { CopyableCommand, CopyButton, Step, saveFile } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import type { DownloadDetails } from "../../wire/api";
import { hubUrl, withBase } from "../../wire/base_path";

interface WayProps {
  /** null while the id is not valid. */
  device: string | null;
  /** null until one was created. */
  token: string | null;
  /** Number of the first step. */
  first: number;
}

interface Way {
  id: string;
  title: string;
  hint: string;
  /** True if the device needs a token. */
  needsToken: boolean;
  /** The steps after the token. */
  Steps: (props: WayProps) => JSX.Element;
}

export function NeedsId() {
  return <p>Correct the device id in step 1 first.</p>;
}

export const WAYS: Way[] = [
  {
    id: "agent",
    title: "A computer",
    hint: "Its sensors, a serial port, Modbus, a file. The agent runs there.",
    needsToken: true,
    Steps: AgentSteps,
  },
  {
    id: "board",
    title: "A board here",
    hint: "It is plugged into this computer. The browser reads it.",
    needsToken: false,
    Steps: BoardSteps,
  },
  {
    id: "program",
    title: "A program",
    hint: "Python, Node.js, Java, Go, a web page, Arduino or curl.",
    needsToken: true,
    Steps: ProgramSteps,
  },
  {
    id: "mqtt",
    title: "MQTT",
    hint: "The device publishes to a broker that the hub joins.",
    needsToken: false,
    Steps: MqttSteps,
  },
  {
    id: "influxdb",
    title: "An InfluxDB writer",
    hint: "Telegraf, and every client of InfluxDB.",
    needsToken: true,
    Steps: InfluxdbSteps,
  },
];

function AgentSteps({ device, token, first }: WayProps) {
  return (
    <>
      <Step number={first} title="Install the agent on the device">
        <Install />
      </Step>
      <Step number={first + 1} title="Run the agent">
        {device === null ? <NeedsId /> : <AgentCommands device={device} token={token} />}
      </Step>
    </>
  );
}

function AgentCommands({ device, token }: { device: string; token: string | null }) {
  return (
    <>
      <p>
        One of these, for what the device sends.{" "}
        <a class="link" href={withBase("/try")}>
          Try it
        </a>{" "}
        shows how its lines are read.
      </p>
      {agentCommands(hubUrl(window.location), device, token).map(({ readings, text }) => (
        <Fragment key={readings}>
          <p class="readings">{readings}</p>
          <CopyableCommand text={text} />
        </Fragment>
      ))}
      <p class="readings">
        The agent also reads Modbus, TCP, UDP, WebSocket, gpsd, files and the output of programs: see{" "}
        <code>device-agent --help</code> and <code>docs/sources.md</code>. One agent reads several sources from a file
        agent.toml: see <code>docs/agent.md</code>.
      </p>
    </>
  );
}

function ProgramSteps({ device, token, first }: WayProps) {
  const programs = clientPrograms(hubUrl(window.location), device ?? "DEVICE", token);
  const [language, setLanguage] = useState(programs[0].language);
  const program = programs.find((known) => known.language === language) ?? programs[0];
  return (
    <>
      <Step number={first} title="Choose the language">
        <div class="chips" role="radiogroup" aria-label="Language">
          {programs.map((known) => (
            <label class="chip" key={known.language}>
              <input
                type="radio"
                name="language"
                checked={known === program}
                onChange={() => setLanguage(known.language)}
              />
              {known.language}
            </label>
          ))}
        </div>
        <p>
          Each program reconnects by itself, sends again what the hub has not answered, and prints the answers of the
          hub. An answer means that the readings are on the hub's disk.
        </p>
      </Step>
      <Step number={first + 1} title={program.commands.length === 0 ? "Load the program" : "Run the program"}>
        {program.note !== "" && <p>{program.note}</p>}
        {program.commands.map((text) => (
          <CopyableCommand key={text} text={text} />
        ))}
        {program.files.map((file) => (
          <Program key={file.name} file={file} />
        ))}
      </Step>
    </>
  );
}

/** A file, with buttons that copy and save it. */
function Program({ file: { name, text } }: { file: ProgramFile }) {
  return (
    <div class="program box" data-testid="program">
      <div class="program-head row">
        <span class="mono ellipsis">{name}</span>
        <CopyButton text={text} name={name} />
        <button
          type="button"
          class="button"
          aria-label={`Save ${name}`}
          onClick={() => saveFile(new Blob([text], { type: "text/plain" }), name.split("/").at(-1) ?? name)}
        >
          <Icon name="download" />
          <span class="word">Save</span>
        </button>
      </div>
      {/* A scrolled area must be reachable by keyboard. */}
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

function BoardSteps({ device, first }: WayProps) {
  return (
    <Step number={first} title="Connect the board in this browser">
      <p>
        The page reads the serial port with Web Serial: in {SERIAL_BROWSERS}. It shows what each line becomes, creates
        the token, and streams while a tab of this hub is open.
      </p>
      <a class="button primary" href={withBase(device === null ? "/board" : `/board?device=${device}`)}>
        Connect a board
      </a>
    </Step>
  );
}

function MqttSteps({ device, first }: WayProps) {
  return (
    <>
      <Step number={first} title="Let the hub join the broker">
        <p>
          Add these lines to the settings of the hub, for a device that publishes to this topic. They are in the file
          that <code>hub run --config</code> or <code>HUB_CONFIG</code> names: <code>/etc/telemetry-hub/hub.toml</code>{" "}
          as a systemd service. If the hub has none, create <code>hub.toml</code> and start it with{" "}
          <code>hub run --config hub.toml</code>.
        </p>
        {device === null ? <NeedsId /> : <CopyableCommand text={mqttSettings(device)} name="the settings" />}
        <p>
          <code>docs/mqtt.md</code> has presets for Zigbee2MQTT, Tasmota, ESPHome, Shelly and Sparkplug B.
        </p>
      </Step>
      <Step number={first + 1} title="Check and restart the hub">
        <p>The check shows what the hub would store, and what it would refuse.</p>
        <CopyableCommand text="hub mqtt check --config hub.toml" />
        <p>
          After the restart, the page{" "}
          <a class="link" href={withBase("/mqtt")}>
            MQTT
          </a>{" "}
          shows the connection.
        </p>
      </Step>
    </>
  );
}

function InfluxdbSteps({ device, token, first }: WayProps) {
  return (
    <Step number={first} title="Let the writer send to this hub">
      <p>
        The hub answers as InfluxDB does, when the points are on its disk. Every organization and bucket is accepted.
      </p>
      {device === null ? (
        <NeedsId />
      ) : (
        influxdbWriters(hubUrl(window.location), device, token).map(({ readings, text }) => (
          <Fragment key={readings}>
            <p class="readings">{readings}</p>
            <CopyableCommand text={text} name="the settings" />
          </Fragment>
        ))
      )}
      <p>
        <code>docs/influxdb-writers.md</code> has Home Assistant, Proxmox, and tokens that write for many devices.
      </p>
    </Step>
  );
}

/** The commands that install the agent from this hub. */
function Install() {
  const [download, setDownload] = useState<DownloadDetails | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    fetchDownload().then(setDownload, (error: unknown) => setProblem(errorText(error)));
  }, []);
  if (problem !== null) return <p class="problem">{problem}</p>;
  return (
    <>
      <p>
        The device needs Python {download?.requires_python.replace(">=", "") ?? ""} or newer. The agent comes from this
        hub, and pip checks it against its hash; its libraries come from{" "}
        {(download?.libraries ?? 0) > 0 ? "this hub, too" : "the package index of the device"}.
      </p>
      <CopyableCommand text={download === null ? "…" : installCommands(hubUrl(window.location), download)} />
      {download !== null && window.location.protocol === "https:" && <OwnAuthority download={download} />}
    </>
  );
}

/** Shows the changes for devices that do not know the authority of the hub's certificate. */
function OwnAuthority({ download }: { download: DownloadDetails }) {
  return (
    <details class="own-authority" data-testid="own-authority">
      <summary>The certificate of this hub is from an authority of your own</summary>
      <p>
        Then pip and the agent have to know that authority. Copy its certificate, here <code>ca.pem</code>, to the
        device, and change the commands as follows. “Trust the hub's certificate” in <code>docs/tls.md</code> has the
        details.
      </p>
      {ownAuthorityHint(hubUrl(window.location), download).map((text) => (
        <CopyableCommand key={text} text={text} />
      ))}
    </details>
  );
}
