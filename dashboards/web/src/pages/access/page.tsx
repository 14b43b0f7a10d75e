/** Access page, for operators: devices without a token that ask for access. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { loadAccessRequests } from "../../data/access_requests";
import { decideAccess, errorText } from "../../data/api";
import { hub } from "../../data/hub";
import { plural } from "../../data/number_format";
import { Poller } from "../../data/poller";
import { ago, duration } from "../../data/time";
import { approvalHint } from "../../data/tokens";
import { visible } from "../../data/visible_text";
import { Confirmation, type ConfirmationRequest, CopyableCommand, PageMessage } from "../../ui/controls";
import type { AccessRequestDetails } from "../../wire/api";
import { withBase } from "../../wire/base_path";

/** An agent polls every 5 seconds: a person at the device sees the code at once, and waits for the row. */
const POLL_PERIOD_MS = 2000;

export function AccessPage() {
  const role = hub.info.value?.role;
  if (role !== undefined && role !== "operator" && role !== "admin")
    return (
      <PageMessage title="Only an operator decides about access" hasLink>
        Sign in with a token of the role operator or admin, or use <code>hub access list</code> on the machine of the
        hub.
      </PageMessage>
    );
  return <Requests />;
}

function Requests() {
  const poller = useMemo(() => new Poller(loadAccessRequests, POLL_PERIOD_MS), []);
  useEffect(() => poller.start(), [poller]);
  const [decided, setDecided] = useState<ReadonlySet<string>>(new Set());
  const [done, setDone] = useState<string | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [confirmation, setConfirmation] = useState<ConfirmationRequest | null>(null);
  const newest = poller.samples.value.at(-1);
  const requests = newest?.value.filter(({ code }) => !decided.has(code));
  const problem = failure ?? poller.problem.value;
  const decide = async ({ code, device }: AccessRequestDetails, decision: "approve" | "refuse") => {
    setFailure(null);
    setDone(null);
    try {
      await decideAccess(code, decision);
      setDecided(new Set([...decided, code]));
      setDone(
        decision === "approve"
          ? `${visible(device)} has access. Its agent collects its token within seconds.`
          : `The request of ${visible(device)} is refused. Its agent stops asking.`,
      );
    } catch (error) {
      setFailure(errorText(error));
    }
  };
  const approve = (request: AccessRequestDetails) =>
    setConfirmation({
      text: `Does the device show ${request.code}?`,
      hint: approvalHint(request),
      action: "Approve",
      onConfirm: () => void decide(request, "approve"),
    });
  return (
    <>
      <h1 class="hidden-text">Access requests</h1>
      {problem !== null && (
        <p class="access-problem problem" role="alert">
          {problem}
        </p>
      )}
      <p class="note access-done" role="status" data-testid="access-done">
        {done}
      </p>
      {requests === undefined ? (
        <div class="box" aria-busy={problem === null} />
      ) : (
        <section class="access box" aria-labelledby="requests-title">
          <div class="access-bar bar">
            <h2 id="requests-title">{plural(requests.length, "device asks for access", "devices ask for access")}</h2>
          </div>
          {requests.length === 0 ? (
            <None />
          ) : (
            <table class="access-table" data-testid="access-requests">
              <thead>
                <tr>
                  {["Code", "Device", "Program", "Address", "Asked", "Ends", "Action"].map((name) => (
                    <th key={name} scope="col">
                      <span class={name === "Action" ? "hidden-text" : undefined}>{name}</span>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {requests.map((request) => (
                  <Row
                    key={request.code}
                    request={request}
                    approve={() => approve(request)}
                    refuse={() => void decide(request, "refuse")}
                  />
                ))}
              </tbody>
            </table>
          )}
          {requests.length > 0 && (
            <p class="note access-caution">
              Anybody who reaches the hub can ask, under any name. Approve only a code that a device of yours shows.
            </p>
          )}
        </section>
      )}
      {confirmation !== null && <Confirmation request={confirmation} close={() => setConfirmation(null)} />}
    </>
  );
}

function None() {
  return (
    <div class="access-none">
      <p>
        An agent without a token asks for access at its start, and shows a code. The request appears here, for 10
        minutes.
      </p>
      <CopyableCommand text={`device-agent setup --hub ${window.location.origin}${withBase("")} --device NAME`} />
    </div>
  );
}

function Row(props: { request: AccessRequestDetails; approve: () => void; refuse: () => void }) {
  const { code, device, program, address, age_s, expires_in_s, is_known, tokens } = props.request;
  return (
    <tr data-testid="access-request" data-code={code}>
      <td class="access-name">
        <span class="access-label label">Code</span>
        <span class="mono access-code">{code}</span>
      </td>
      <td class="access-devices">
        <span class="access-label label">Device</span>
        <span class="mono">{device}</span>
        <span class="note access-known">
          {is_known ? "known device" : "new device"}
          {tokens > 0 && `, has ${plural(tokens, "valid token")}`}
        </span>
      </td>
      <td class="access-devices">
        <span class="access-label label">Program</span>
        {program === "" ? "–" : visible(program)}
      </td>
      <td class="access-devices">
        <span class="access-label label">Address</span>
        <span class="mono">{visible(address)}</span>
      </td>
      <td>
        <span class="access-label label">Asked</span>
        {ago(age_s * 1000)}
      </td>
      <td>
        <span class="access-label label">Ends</span>
        in {duration(expires_in_s * 1000)}
      </td>
      <td class="access-action">
        <button type="button" class="button primary" onClick={props.approve}>
          Approve<span class="hidden-text"> {code}</span>
        </button>{" "}
        <button type="button" class="button" onClick={props.refuse}>
          Refuse<span class="hidden-text"> {code}</span>
        </button>
      </td>
    </tr>
  );
}
