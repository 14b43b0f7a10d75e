/** Instructions for the first device. */

import { useState } from "preact/hooks";
import { createToken } from "../../data/api";
import { hub } from "../../data/hub";
import { CopyableCommand } from "../../ui/controls";
import { DashedCircle } from "../../ui/icon";

const DEVICE = "my-device";
const PLACEHOLDER = "YOUR-TOKEN";

export function EmptyFleet() {
  const [token, setToken] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const admin = hub.info.value?.role === "admin";
  const make = async () => {
    try {
      const made = await createToken({ role: "device", device: DEVICE, label: "First device" });
      setToken(made.token);
      setProblem(null);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  const url = window.location.origin;
  return (
    <section class="teach" data-testid="empty-fleet">
      <h1>Connect the first device</h1>
      <p>This hub is ready and has no device yet. A device sends readings with a token of its own.</p>
      <ol>
        <li>
          <span class="step">1</span>
          <div>
            <h2>Make a token for the device</h2>
            {admin ? (
              <>
                <p>It is shown here once, inside the command below.</p>
                <button
                  type="button"
                  class="button primary"
                  onClick={() => void make()}
                  disabled={token !== null}
                >
                  {token === null ? "Create a token" : "Token created"}
                </button>
                {problem !== null && <p class="problem">{problem}</p>}
              </>
            ) : (
              <>
                <p>Your role may look, but not make tokens. On the machine of the hub:</p>
                <CopyableCommand text={`hub token create --role device --device ${DEVICE}`} />
              </>
            )}
          </div>
        </li>
        <li>
          <span class="step">2</span>
          <div>
            <h2>Run the agent on the device</h2>
            <p>It sends this computer's own sensors; a serial line or your own program work likewise.</p>
            <CopyableCommand text={`pip install telemetry-hub`} />
            <CopyableCommand
              text={`HUB_TOKEN=${token ?? PLACEHOLDER} device-agent run --hub ${url} --device ${DEVICE}`}
            />
          </div>
        </li>
      </ol>
      <p class="waiting">
        <span class="condition online">
          <DashedCircle />
        </span>
        Waiting for the first reading. The device appears here by itself.
      </p>
    </section>
  );
}
