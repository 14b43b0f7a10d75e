/** The guide that adds a device: its id, the way by which it sends, a token, the commands, and what the hub sees. */

import { useState } from "preact/hooks";
import { createToken } from "../../data/api";
import { hub } from "../../data/hub";
import { DEVICE_ID_RULE, isDeviceId, tokenCommand, unusedDeviceId } from "../../data/install";
import { ActionProblem, CopyableCommand, DeviceIdInput, Step, useAction } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import { Arrival } from "./arrival";
import { NeedsId, WAYS } from "./ways";

export function AddDevicePage() {
  // The name that the guide proposes is one that no device of the fleet has.
  if (!hub.fleet.loaded.value) return <div class="box" aria-busy="true" />;
  return (
    <AddDeviceGuide title="Add a device" testId="add-device">
      Each device has its own id and its own token. Choose how it sends its readings.
    </AddDeviceGuide>
  );
}

export function EmptyFleet() {
  return (
    <AddDeviceGuide title="Connect the first device" testId="empty-fleet">
      The hub is ready, but no device has connected yet. Each device has its own id and its own token.
    </AddDeviceGuide>
  );
}

function AddDeviceGuide({ title, testId, children }: { title: string; testId: string; children: string }) {
  const [device, setDevice] = useState(() => unusedDeviceId(hub.fleet.records));
  // The device of this guide joins the fleet while the guide is open.
  const [known] = useState(() => new Set(hub.fleet.records.keys()));
  const [token, setToken] = useState<string | null>(null);
  const [way, setWay] = useState(WAYS[0]);
  const valid = isDeviceId(device);
  return (
    <section class="guide box" data-testid={testId}>
      <h1>{title}</h1>
      <p>{children}</p>
      <ol>
        <Step number={1} title="Choose the device id">
          <p>The readings are stored under this id, which cannot be changed later. {valid && DEVICE_ID_RULE}</p>
          <DeviceIdInput
            device={device}
            change={(changed) => {
              setDevice(changed);
              setToken(null);
            }}
          />
          {!valid && (
            <p class="problem" role="alert">
              {device === "" ? "Enter a device id." : `“${device}” is not a device id. ${DEVICE_ID_RULE}`}
            </p>
          )}
          {known.has(device) && (
            <p class="row known-device" role="status" data-testid="known-device">
              <Icon name="warning" />
              This device exists already. If yours is another one, choose another id: their readings are mixed, and the
              two disconnect each other.
            </p>
          )}
        </Step>
        <Step number={2} title="Choose how it sends">
          <div class="ways" role="radiogroup" aria-label="How it sends">
            {WAYS.map((known) => (
              <label class="way box" key={known.id}>
                <input type="radio" name="way" checked={known === way} onChange={() => setWay(known)} />
                <strong>{known.title}</strong>
                <span class="note">{known.hint}</span>
              </label>
            ))}
          </div>
        </Step>
        {way.needsToken && (
          <Step number={3} title="Create a token for the device">
            {hub.canAdminister ? (
              <CreateDeviceToken device={device} token={token} onCreated={setToken} />
            ) : (
              <>
                <p>Your role cannot create tokens. Run this command on the machine of the hub:</p>
                {valid ? <CopyableCommand text={tokenCommand(device)} /> : <NeedsId />}
              </>
            )}
          </Step>
        )}
        <way.Steps device={valid ? device : null} token={token} first={way.needsToken ? 4 : 3} />
      </ol>
      {valid && <Arrival key={device} device={device} />}
    </section>
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
      <p>The token is shown once, in the following steps.</p>
      <button
        type="button"
        class="button primary"
        onClick={() => void run()}
        disabled={running || token !== null || !isDeviceId(device)}
      >
        {token === null ? "Create a token" : "Token created"}
      </button>
      <ActionProblem problem={problem} effect="No token was created." />
    </>
  );
}
