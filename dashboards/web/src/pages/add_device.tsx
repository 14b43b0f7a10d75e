/** Instructions to connect a device: a token, the installation of the agent, and the command that starts it. */

import { Fragment } from "preact";
import { useEffect, useState } from "preact/hooks";
import { createToken, errorText, fetchDownload } from "../data/api";
import { hub } from "../data/hub";
import {
  agentCommands,
  DEVICE_ID_RULE,
  installCommands,
  isDeviceId,
  ownAuthorityHint,
  unusedDeviceId,
} from "../data/install";
import { CopyableCommand, Step, useAction } from "../ui/controls";
import { DashedCircle } from "../ui/icon";
import { devicePath } from "../ui/route";
import { asSentence } from "../ui/status_text";
import type { DownloadDetails } from "../wire/api";
import { hubUrl, withBase } from "../wire/base_path";

export function AddDevicePage() {
  // The name that the guide proposes is one that no device of the fleet has.
  if (!hub.fleet.loaded.value) return <div class="box" aria-busy="true" />;
  return (
    <AddDeviceGuide title="Add a device" testId="add-device">
      The agent runs on the device and sends its readings to this hub. Each device needs its own token.
    </AddDeviceGuide>
  );
}

export function EmptyFleet() {
  return (
    <AddDeviceGuide title="Connect the first device" testId="empty-fleet">
      The hub is ready, but no device has connected yet. Each device needs its own token.
    </AddDeviceGuide>
  );
}

function AddDeviceGuide({ title, testId, children }: { title: string; testId: string; children: string }) {
  const [device, setDevice] = useState(() => unusedDeviceId(hub.fleet.records));
  const [token, setToken] = useState<string | null>(null);
  const valid = isDeviceId(device);
  return (
    <section class="guide box" data-testid={testId}>
      <h1>{title}</h1>
      <p>{children}</p>
      <ol>
        <Step number={1} title="Choose the device id">
          <p>The readings are stored under this id, which cannot be changed later. {valid && DEVICE_ID_RULE}</p>
          <input
            class="field mono device-id"
            aria-label="Device id"
            maxLength={64}
            spellcheck={false}
            autocomplete="off"
            value={device}
            aria-invalid={!valid}
            onInput={(event) => {
              setDevice(event.currentTarget.value.trim());
              setToken(null);
            }}
          />
          {!valid && (
            <p class="problem" role="alert">
              {device === "" ? "Enter a device id." : `“${device}” is not a device id. ${DEVICE_ID_RULE}`}
            </p>
          )}
        </Step>
        <Step number={2} title="Create a token for the device">
          {hub.info.value?.role === "admin" ? (
            <CreateDeviceToken device={device} token={token} onCreated={setToken} />
          ) : (
            <>
              <p>Your role cannot create tokens. Run this command on the machine of the hub:</p>
              {valid ? <CopyableCommand text={`hub token create --role device --device ${device}`} /> : <NeedsId />}
            </>
          )}
        </Step>
        <Step number={3} title="Install the agent on the device">
          <Install />
        </Step>
        <Step number={4} title="Run the agent">
          {valid ? <AgentCommands device={device} token={token} /> : <NeedsId />}
        </Step>
      </ol>
      <p>
        Devices that publish to an MQTT broker need no agent:{" "}
        <a class="link" href={withBase("/mqtt")}>
          join the broker
        </a>
        .
      </p>
      <Waiting device={device} />
    </section>
  );
}

function NeedsId() {
  return <p>Correct the device id in step 1 first.</p>;
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
    </>
  );
}

interface CreateDeviceTokenProps {
  device: string;
  token: string | null;
  onCreated: (token: string) => void;
}

function CreateDeviceToken({ device, token, onCreated }: CreateDeviceTokenProps) {
  const { running, problem, run } = useAction(async () => {
    onCreated((await createToken({ role: "device", device, label: "Created in the page" })).token);
  });
  return (
    <>
      <p>The token is shown once, in the commands of step 4.</p>
      <button
        type="button"
        class="button primary"
        onClick={() => void run()}
        disabled={running || token !== null || !isDeviceId(device)}
      >
        {token === null ? "Create a token" : "Token created"}
      </button>
      {problem !== null && (
        <p class="problem" role="alert">
          No token was created. {asSentence(problem)}
        </p>
      )}
    </>
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

function Waiting({ device }: { device: string }) {
  void hub.fleet.version.value;
  return (
    <p class="waiting note row" role="status">
      {hub.fleet.records.has(device) ? (
        <a class="link" href={devicePath(device)}>
          The device {device} has connected. Show it
        </a>
      ) : (
        <>
          <span class="condition online">
            <DashedCircle />
          </span>
          Waiting for the first reading. The device then appears on the page Fleet.
        </>
      )}
    </p>
  );
}
