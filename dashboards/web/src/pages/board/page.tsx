/** Page “Connect a board”: choose a port of this browser, see what its lines become, and stream it to the hub. */

import { useEffect, useState } from "preact/hooks";
import type { Board } from "../../agent/board";
import type { BoardRecord } from "../../agent/database";
import type { PortFeed } from "../../agent/port_feed";
import { portName, serialProblem } from "../../agent/serial";
import { boardTab } from "../../data/boards";
import { hub } from "../../data/hub";
import { DEVICE_ID_RULE, isDeviceId, tokenCommand, unusedDeviceId } from "../../data/install";
import { count, plural } from "../../data/number_format";
import {
  ActionProblem,
  Confirmation,
  type ConfirmationRequest,
  CopyableCommand,
  DeviceIdInput,
  Field,
  useAction,
  useActions,
} from "../../ui/controls";
import { DashedCircle, Icon, Shape } from "../../ui/icon";
import { devicePath } from "../../ui/route";
import { LinesPanel } from "./lines";
import { NoSerial } from "./no_serial";
import { SettingsFields } from "./settings";
import { StreamPanel } from "./stream";

export function BoardPage() {
  // The name that the page proposes is one that no device of the fleet has.
  if (!hub.fleet.loaded.value) return <div class="box" aria-busy="true" />;
  const problem = serialProblem();
  return problem === null ? <ConnectBoard /> : <NoSerial problem={problem} />;
}

function ConnectBoard() {
  useEffect(() => void boardTab.refresh(), []);
  const [feed, board] = [boardTab.feed.value, boardTab.board.value];
  return (
    <div class="side-by-side" data-testid="board">
      <h1 class="hidden-text">Connect a board</h1>
      <div class="board-steps">
        <ActionProblem problem={boardTab.problem.value} />
        <PortPanel feed={feed} />
        {board === null && <StartPanel feed={feed} />}
        {board !== null && <StreamPanel board={board} />}
        <KnownBoards current={board} />
      </div>
      <LinesPanel feed={feed} />
    </div>
  );
}

function PortPanel({ feed }: { feed: PortFeed | null }) {
  const { running, problem, run } = useAction(() => boardTab.choose());
  const others = boardTab.ports.value.filter(() => feed === null);
  return (
    <section class="box board-part" aria-labelledby="board-port">
      <h2 id="board-port">Port</h2>
      {feed === null ? (
        <p class="note">
          Plug the board into this computer, and choose its port. Its lines appear; nothing is stored before the start.
        </p>
      ) : (
        <PortState feed={feed} />
      )}
      <SettingsFields />
      <div class="bar">
        <button
          type="button"
          class={feed === null ? "button primary" : "button"}
          onClick={() => void run()}
          disabled={running}
        >
          {feed === null ? "Choose a port" : "Choose another port"}
        </button>
        {others.map((port, place) => (
          <button type="button" class="button" key={place} onClick={() => void boardTab.read(port)}>
            Open {portName(port.getInfo())}
          </button>
        ))}
      </div>
      <ActionProblem problem={problem} effect="No port was opened." />
    </section>
  );
}

function PortState({ feed }: { feed: PortFeed }) {
  const status = feed.status.value;
  const errors = [...feed.errors];
  return (
    <>
      <p class="row board-state" data-testid="port-state" data-state={status.state}>
        {status.state === "reading" ? (
          <Shape condition="online" />
        ) : status.state === "failed" ? (
          <Shape condition="offline" />
        ) : (
          <DashedCircle />
        )}
        <span>
          <b>{feed.name}</b>
          {status.state === "failed"
            ? `: ${status.reason}. It is opened again when it is there.`
            : ` ${PORT_WORDS[status.state]}`}
        </span>
      </p>
      {(boardTab.isNoise.value || errors.length > 0) && (
        <p class="problem row" role="status" data-testid="noise">
          <Icon name="warning" />
          {boardTab.isNoise.value
            ? "Most of these bytes are no text. Choose another baud rate."
            : `The port reports ${errors.map(([name, times]) => `${name} (${count(times)})`).join(", ")}. Check the baud rate and the cable.`}
        </p>
      )}
    </>
  );
}

const PORT_WORDS = { closed: "is closed", opening: "is being opened", reading: "sends to this page" } as const;

function StartPanel({ feed }: { feed: PortFeed | null }) {
  const [device, setDevice] = useState(proposedDevice);
  const [token, setToken] = useState("");
  const known = boardTab.records.value.find((record) => record.device === device);
  const needsToken = !hub.canAdminister && (known?.token ?? "") === "";
  const { running, problem, run } = useAction(() => boardTab.start(device, token.trim()));
  const valid = isDeviceId(device);
  const isReading = feed?.status.value.state === "reading";
  return (
    <section class="box board-part" aria-labelledby="board-start">
      <h2 id="board-start">Start</h2>
      <Field name="Device id">
        <DeviceIdInput device={device} change={setDevice} />
      </Field>
      {!valid && (
        <p class="problem" role="alert">
          {DEVICE_ID_RULE}
        </p>
      )}
      {valid && known === undefined && hub.fleet.records.has(device) && (
        <p class="problem row" role="status">
          <Icon name="warning" />
          The hub has a device {device}. If it is another one, their readings are mixed, and the two disconnect each
          other.
        </p>
      )}
      {needsToken ? (
        <OwnToken device={valid ? device : "DEVICE"} token={token} onInput={setToken} />
      ) : (
        <p class="note">
          {(known?.token ?? "") === ""
            ? "A token for this device alone is created and kept in this browser."
            : "This browser has a token for this device."}
        </p>
      )}
      <div class="bar">
        <button
          type="button"
          class="button primary"
          data-testid="start"
          onClick={() => void run()}
          disabled={running || !valid || !isReading || (needsToken && token.trim() === "")}
        >
          Start
        </button>
        {feed === null && <span class="note">Choose a port first.</span>}
      </div>
      <ActionProblem problem={problem} effect="The stream was not started." />
    </section>
  );
}

/** Return the id that the guide "Add a device" has chosen, or one that no device of the fleet has. */
function proposedDevice(): string {
  const chosen = new URLSearchParams(window.location.search).get("device") ?? "";
  return isDeviceId(chosen) ? chosen : unusedDeviceId(hub.fleet.records);
}

/** Field for a token, for roles that cannot create one. */
function OwnToken(props: { device: string; token: string; onInput: (token: string) => void }) {
  const { device, token, onInput } = props;
  return (
    <>
      <p class="note">
        Your role cannot create tokens. Ask for one that this command prints on the machine of the hub:
      </p>
      <CopyableCommand text={tokenCommand(device)} />
      <Field name="Token of the device">
        <input
          class="field mono"
          type="password"
          autocomplete="off"
          value={token}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      </Field>
    </>
  );
}

/** Boards that this browser has streamed, and that this tab does not run. */
function KnownBoards({ current }: { current: Board | null }) {
  const [request, setRequest] = useState<ConfirmationRequest | null>(null);
  const { problem, run } = useActions();
  const records = boardTab.records.value.filter(({ device }) => device !== current?.record.device);
  if (records.length === 0 && problem === null) return null;
  return (
    <section class="box board-part" aria-labelledby="board-known">
      <h2 id="board-known">Boards of this browser</h2>
      <ActionProblem problem={problem} />
      <ul class="board-known">
        {records.map((record) => (
          <li key={record.device} data-testid="known-board">
            <a class="link mono ellipsis" href={devicePath(record.device)}>
              {record.device}
            </a>
            <span class="note">{describe(record)}</span>
            <button type="button" class="button" onClick={() => void run(() => boardTab.resume(record))}>
              Resume
            </button>
            <button
              type="button"
              class="button plain"
              onClick={() => setRequest(forgetRequest(record, () => void run(() => boardTab.forget(record))))}
            >
              Forget
            </button>
          </li>
        ))}
      </ul>
      {request !== null && <Confirmation request={request} close={() => setRequest(null)} />}
    </section>
  );
}

function describe({ port, counts }: BoardRecord): string {
  return `${portName(port)}, ${plural(counts.readings, "reading")}`;
}

function forgetRequest(record: BoardRecord, onConfirm: () => void): ConfirmationRequest {
  const unsent = record.counts.readings - record.counts.acknowledged;
  const hint =
    unsent > 0
      ? `${plural(unsent, "reading")} of it that the hub may not have are deleted with its spool. Its token is revoked.`
      : "Its spool is empty. Its token is revoked. What the hub has stays.";
  return { text: `Forget ${record.device} in this browser?`, hint, action: "Forget", onConfirm };
}
