/** Tokens page, for admins: tokens and signed-in browsers. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { endSession, errorText, revokeToken, rotateToken } from "../../data/api";
import { hub } from "../../data/hub";
import { plural } from "../../data/number_format";
import { Poller } from "../../data/poller";
import { ago, dateTime, duration, now } from "../../data/time";
import { AccessList, isExpired, matchTokens, revocationHint } from "../../data/tokens";
import { Confirmation, type ConfirmationRequest, PageMessage } from "../../ui/controls";
import { Icon } from "../../ui/icon";
import type { CreatedToken, SessionDetails, TokenDetails } from "../../wire/api";
import { CreateTokenPanel } from "./create";

const POLL_PERIOD_MS = 15_000;
/** Rows that are shown at first, and added by each click: a hub may have 100,000 tokens. */
const ROWS = 100;

/** Validity of an old token after its rotation: a day to bring the new one to the device. */
const OVERLAP_S = 86_400;

export function TokensPage() {
  if (hub.info.value !== null && hub.info.value.role !== "admin")
    return (
      <PageMessage title="Only an admin sees the tokens" hasLink>
        Sign in with a token of the role admin, or use <code>hub token list</code> on the machine of the hub.
      </PageMessage>
    );
  return <Access />;
}

function Access() {
  const list = useMemo(() => new AccessList(), []);
  const poller = useMemo(() => new Poller(() => list.poll(), POLL_PERIOD_MS), [list]);
  useEffect(() => poller.start(), [poller]);
  const [creating, setCreating] = useState(false);
  const [created, setCreated] = useState<CreatedToken | null>(null);
  const [confirmation, setConfirmation] = useState<ConfirmationRequest | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const problem = failure ?? poller.problem.value;
  const tokens = list.tokens.value;
  const closePanel = () => {
    setCreating(false);
    setCreated(null);
  };
  // The new token is in the list after the next answer. If it leaves the list again, it is revoked, here or elsewhere.
  const isListed = tokens?.some(({ id }) => id === created?.id) === true;
  const wasListed = useRef(false);
  useEffect(() => {
    if (wasListed.current && !isListed) closePanel();
    wasListed.current = isListed;
  }, [isListed]);
  const act = async (action: () => Promise<void>) => {
    setFailure(null);
    try {
      await action();
      await list.refresh();
    } catch (error) {
      setFailure(errorText(error));
    }
  };
  const revoke = (token: TokenDetails) =>
    setConfirmation({
      text: `Revoke the token ${token.id}?`,
      hint: revocationHint(token, tokens ?? [], list.sessions.value, now.value),
      action: "Revoke",
      onConfirm: () => void act(() => revokeToken(token.id)),
    });
  const rotate = (token: TokenDetails) =>
    setConfirmation({
      text: `Replace the token ${token.id}?`,
      hint: "The new token is shown once. The old one stays valid for a day, or until it expires before.",
      action: "Rotate",
      onConfirm: () =>
        void act(async () => {
          setCreated(await rotateToken(token.id, OVERLAP_S));
          setCreating(true);
        }),
    });
  const signOut = (session: SessionDetails) =>
    setConfirmation({
      text: session.current ? "Sign out this browser?" : "Sign out the browser?",
      hint: session.current
        ? "It is the browser that you use now."
        : "Its pages are closed at once. Signing in again needs a token or a one-time URL.",
      action: "Sign out",
      onConfirm: () => void act(() => endSession(session.id)),
    });
  return (
    <>
      <h1 class="hidden-text">Tokens</h1>
      {problem !== null && (
        <p class="access-problem problem" role="alert">
          {problem}
        </p>
      )}
      {creating ? (
        <CreateTokenPanel
          created={created}
          close={closePanel}
          onCreated={(token) => {
            setCreated(token);
            void act(async () => {});
          }}
        />
      ) : (
        <button type="button" class="button primary access-create" onClick={() => setCreating(true)}>
          <Icon name="add" />
          Create a token
        </button>
      )}
      {tokens === null ? (
        <div class="box" aria-busy={problem === null} />
      ) : (
        <>
          <Tokens tokens={tokens} rotate={rotate} revoke={revoke} />
          <Sessions sessions={list.sessions.value} signOut={signOut} />
        </>
      )}
      {confirmation !== null && <Confirmation request={confirmation} close={() => setConfirmation(null)} />}
    </>
  );
}

interface TokensProps {
  tokens: TokenDetails[];
  rotate: (token: TokenDetails) => void;
  revoke: (token: TokenDetails) => void;
}

function Tokens({ tokens, rotate, revoke }: TokensProps) {
  const [words, setWords] = useState("");
  const [rows, setRows] = useState(ROWS);
  const matching = matchTokens(tokens, words);
  return (
    <section class="access box" aria-labelledby="tokens-title">
      <div class="access-bar bar">
        <h2 id="tokens-title">{plural(matching.length, "token")}</h2>
        <input
          class="field"
          data-search
          type="search"
          placeholder="Filter by id, role, device or label"
          aria-label="Filter tokens"
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
      </div>
      <table class="access-table" data-testid="tokens">
        <Head names={["Token", "Role", "Devices", "Created", "Last used", "Expires", "State", ""]} />
        <tbody>
          {matching.slice(0, rows).map((token) => (
            <TokenRow key={token.id} token={token} rotate={() => rotate(token)} revoke={() => revoke(token)} />
          ))}
        </tbody>
      </table>
      {matching.length === 0 && <p class="fleet-none">No token matches the filter.</p>}
      {matching.length > rows && (
        <button type="button" class="button access-more" onClick={() => setRows(rows + ROWS)}>
          Show more
        </button>
      )}
    </section>
  );
}

function TokenRow({ token, rotate, revoke }: { token: TokenDetails; rotate: () => void; revoke: () => void }) {
  const { id, role, pattern, label, created_ns, last_used_ns, expires_ns } = token;
  const expired = isExpired(token, now.value);
  return (
    <tr data-testid="token" data-id={id}>
      <Named id={id} label={label} />
      <Cell name="Role">{role}</Cell>
      <Cell name="Devices" className="access-devices">
        {pattern === "" ? "–" : <span class="mono">{pattern}</span>}
      </Cell>
      <Cell name="Created">{dateTime(created_ns / 1e6, now.value, "minutes")}</Cell>
      <Cell name="Last used">{last_used_ns === null ? "never" : since(last_used_ns)}</Cell>
      <Cell name="Expires">{expires_ns === null ? "never" : expiry(expires_ns, expired)}</Cell>
      <Cell name="State">
        <span class={`tag ${expired ? "expired" : ""}`}>{expired ? "Expired" : "Valid"}</span>
      </Cell>
      <td class="access-action">
        {!expired && (
          <button type="button" class="button access-rotate" onClick={rotate}>
            Rotate<span class="hidden-text"> {id}</span>
          </button>
        )}
        <button type="button" class="button" onClick={revoke}>
          Revoke<span class="hidden-text"> {id}</span>
        </button>
      </td>
    </tr>
  );
}

function Sessions({ sessions, signOut }: { sessions: SessionDetails[]; signOut: (session: SessionDetails) => void }) {
  return (
    <section class="access box" aria-labelledby="sessions-title">
      <div class="access-bar bar">
        <h2 id="sessions-title">{plural(sessions.length, "signed-in browser")}</h2>
      </div>
      {sessions.length === 0 ? (
        <p class="fleet-none">No browser is signed in.</p>
      ) : (
        <table class="access-table" data-testid="sessions">
          <Head names={["Token", "Role", "Signed in", "Last used", "Expires", ""]} />
          <tbody>
            {sessions.map((session) => (
              <tr key={session.id} data-testid="session" data-id={session.id}>
                <Named id={session.token} label={session.label} tag={session.current ? "this browser" : undefined} />
                <Cell name="Role">{session.role}</Cell>
                <Cell name="Signed in">{dateTime(session.created_ns / 1e6, now.value, "minutes")}</Cell>
                <Cell name="Last used">
                  {session.last_used_ns === null ? "before the hub started" : since(session.last_used_ns)}
                </Cell>
                <Cell name="Expires">{expiry(session.expires_ns, false)}</Cell>
                <td class="access-action">
                  <button type="button" class="button" onClick={() => signOut(session)}>
                    Sign out<span class="hidden-text"> the session {session.id}</span>
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Head({ names }: { names: string[] }) {
  return (
    <thead>
      <tr>
        {names.map((name) => (
          <th key={name} scope="col">
            {name === "" ? <span class="hidden-text">Action</span> : name}
          </th>
        ))}
      </tr>
    </thead>
  );
}

/** A token's id and label. */
function Named({ id, label, tag }: { id: string; label: string; tag?: string }) {
  return (
    <td class="access-name">
      <span class="mono">{id}</span>
      {tag !== undefined && <span class="tag">{tag}</span>}
      {label !== "" && <span class="note">{label}</span>}
    </td>
  );
}

/** A cell that shows its name on a phone, where the table has no head. */
function Cell(props: { name: string; className?: string; children: ComponentChildren }) {
  const { name, className, children } = props;
  return (
    <td class={className}>
      <span class="access-label label">{name}</span>
      {children}
    </td>
  );
}

function since(time_ns: number): string {
  return ago(now.value - time_ns / 1e6);
}

function expiry(time_ns: number, expired: boolean): string {
  const left_ms = time_ns / 1e6 - now.value;
  return expired ? ago(-left_ms) : `in ${duration(left_ms)}`;
}
