/** Stream of a board to the hub: its state, its counts, Stop and Start again. */

import type { Board } from "../../agent/board";
import { boardTab } from "../../data/boards";
import { count } from "../../data/number_format";
import { pageNow } from "../../data/time";
import { ActionProblem, useActions, WithCode } from "../../ui/controls";
import { DashedCircle, Icon, Shape } from "../../ui/icon";
import { devicePath } from "../../ui/route";
import { asSentence } from "../../ui/status_text";

export function StreamPanel({ board }: { board: Board }) {
  void board.version.value;
  const { problem, run } = useActions();
  const { device, counts, isStarted } = board.record;
  return (
    <section class="box board-part" aria-labelledby="board-stream" data-testid="stream">
      <h2 id="board-stream">
        Stream of{" "}
        <a class="link mono" href={devicePath(device)}>
          {device}
        </a>
      </h2>
      <UplinkState board={board} />
      <dl class="board-counts">
        <Count name="Readings read" id="read" value={counts.readings} />
        <Count name="Batches in the spool" id="waiting" value={board.waiting} />
        <Count name="Readings acknowledged" id="acknowledged" value={counts.acknowledged} />
        <Count name="Refused" id="stream-refused" value={counts.refused} isWarning={counts.refused > 0} />
      </dl>
      {board.reject !== null && (
        <p class="problem row" role="status">
          <Icon name="warning" />
          <span>The hub put values of this board into quarantine: {asSentence(board.reject.message)}</span>
        </p>
      )}
      {board.problem !== "" && (
        <p class="problem row" role="alert">
          <Icon name="warning" />
          <span>
            The browser cannot store readings: {asSentence(board.problem)} They are lost, and declared as a gap. Make
            room on the disk of this computer.
          </span>
        </p>
      )}
      <div class="bar">
        {isStarted ? (
          <button type="button" class="button" data-testid="stop" onClick={() => void run(() => boardTab.stop())}>
            Stop
          </button>
        ) : (
          <button type="button" class="button primary" onClick={() => void run(() => boardTab.restart())}>
            Start again
          </button>
        )}
        {!isStarted && (
          <button type="button" class="button" onClick={() => void run(() => boardTab.leaveBoard())}>
            Release
          </button>
        )}
      </div>
      <ActionProblem problem={problem} />
      <p class="note">
        The board streams as long as this tab is open. A reload, a restart of the hub and a lost network lose nothing of
        what this page has read.
      </p>
    </section>
  );
}

function UplinkState({ board }: { board: Board }) {
  const status = board.uplink.status.value;
  const isOnline = status.state === "online";
  const wait_s = status.state === "waiting" ? Math.max(0, Math.ceil((status.retryAt - pageNow.value) / 1000)) : 0;
  return (
    <>
      <p class="row board-state" role="status" data-testid="uplink" data-state={status.state}>
        {isOnline ? (
          <Shape condition="online" />
        ) : status.state === "stopped" ? (
          <Shape condition="offline" />
        ) : (
          <DashedCircle />
        )}
        <span>
          {isOnline && (board.record.isStarted ? "Streaming to the hub" : "Stopped; connected to the hub")}
          {status.state === "connecting" && "Connecting to the hub"}
          {status.state === "closed" && "Not connected to the hub"}
          {status.state === "waiting" && (
            <>
              No connection: <Reason {...status} /> Next attempt in {wait_s} s.
            </>
          )}
          {status.state === "stopped" && `Stopped: ${asSentence(status.reason)}`}
        </span>
      </p>
      {(status.state === "waiting" || status.state === "stopped") && (
        <div class="bar">
          <button type="button" class="button" onClick={() => board.uplink.retry()}>
            {status.state === "stopped" ? "Take over again" : "Connect now"}
          </button>
          <span class="note">
            {status.state === "waiting" && status.needsPerson
              ? "Readings stay in the spool. If the token was revoked, forget this board and start it again."
              : "Readings stay in the spool."}
          </span>
        </div>
      )}
    </>
  );
}

/** Why there is no connection. Commands are shown as code only if a person has to act: other reasons may quote a board. */
function Reason({ reason, needsPerson }: { reason: string; needsPerson: boolean }) {
  return needsPerson ? <WithCode text={asSentence(reason)} /> : asSentence(reason);
}

function Count(props: { name: string; id: string; value: number; isWarning?: boolean }) {
  const { name, id, value, isWarning = false } = props;
  return (
    <div>
      <dt class="label">{name}</dt>
      <dd class={isWarning ? "board-warning" : ""} data-testid={id}>
        {isWarning && <Icon name="warning" />}
        {count(value)}
      </dd>
    </div>
  );
}
