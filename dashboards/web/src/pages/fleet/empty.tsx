/** Instructions for the first device. */

import { useState } from "preact/hooks";
import { createToken } from "../../data/api";
import { hub } from "../../data/hub";
import { CopyableCommand, Step, useAction } from "../../ui/controls";
import { DashedCircle } from "../../ui/icon";
import { hubUrl } from "../../wire/base_path";

const DEVICE = "my-device";
const PLACEHOLDER = "YOUR-TOKEN";

export function EmptyFleet() {
  const [token, setToken] = useState<string | null>(null);
  const url = hubUrl(window.location);
  return (
    <section class="guide box" data-testid="empty-fleet">
      <h1>Connect the first device</h1>
      <p>The hub is ready, but no device has connected yet. Each device needs its own token.</p>
      <ol>
        <Step number={1} title="Create a token for the device">
          {hub.info.value?.role === "admin" ? (
            <CreateToken token={token} onCreated={setToken} />
          ) : (
            <>
              <p>Your role cannot create tokens. Run this command on the machine of the hub:</p>
              <CopyableCommand text={`hub token create --role device --device ${DEVICE}`} />
            </>
          )}
        </Step>
        <Step number={2} title="Run the agent on the device">
          <p>The agent sends the sensors of that computer, a serial line, or the data of your program.</p>
          <CopyableCommand text="pip install telemetry-hub" />
          <CopyableCommand
            text={`HUB_TOKEN=${token ?? PLACEHOLDER} device-agent run --hub ${url} --device ${DEVICE}`}
          />
        </Step>
      </ol>
      <p class="waiting note row">
        <span class="condition online">
          <DashedCircle />
        </span>
        Waiting for the first reading. The device then appears on this page.
      </p>
    </section>
  );
}

function CreateToken({ token, onCreated }: { token: string | null; onCreated: (token: string) => void }) {
  const { problem, run } = useAction(async () => {
    onCreated((await createToken({ role: "device", device: DEVICE, label: "First device" })).token);
  });
  return (
    <>
      <p>The token is shown once, in the command below.</p>
      <button type="button" class="button primary" onClick={() => void run()} disabled={token !== null}>
        {token === null ? "Create a token" : "Token created"}
      </button>
      {problem !== null && <p class="problem">No token was created. {problem}</p>}
    </>
  );
}
