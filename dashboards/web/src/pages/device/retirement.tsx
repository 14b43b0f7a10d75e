/** How a device that is gone for good leaves the fleet. */

import { useState } from "preact/hooks";
import { ApiError, retireDevice } from "../../data/api";
import type { DeviceRecord } from "../../data/fleet";
import { hub } from "../../data/hub";
import { Confirmation } from "../../ui/confirmation";

export function Retirement({ record }: { record: DeviceRecord }) {
  const [asks, setAsks] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const { device } = record;
  const { connected, retired } = record.state.value;
  const role = hub.info.value?.role;
  if (retired)
    return (
      <p class="retirement" data-testid="retired">
        Retired: its history is all here, and it is back with the next reading that it sends.
      </p>
    );
  if (role !== "operator" && role !== "admin") return null;
  const retire = () => {
    setProblem(null);
    retireDevice(device).catch((error: unknown) =>
      setProblem(error instanceof ApiError ? error.message : String(error)),
    );
  };
  return (
    <p class="retirement">
      <button type="button" class="button" data-testid="retire" onClick={() => setAsks(true)}>
        Retire this device…
      </button>
      {problem !== null && <span class="problem">{problem}</span>}
      {asks && (
        <Confirmation
          question={{
            text: `Retire ${device}?`,
            hint: `It leaves the fleet and Home Assistant. Its history stays. ${
              connected ? "It is connected: it is" : "It is"
            } back with the next reading that it sends.`,
            action: "Retire",
            yes: retire,
          }}
          close={() => setAsks(false)}
        />
      )}
    </p>
  );
}
