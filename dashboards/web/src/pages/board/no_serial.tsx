/** Explanation of a page without serial ports, and of what helps. */

import { SERIAL_BROWSERS, type SerialProblem } from "../../agent/serial";
import { withBase } from "../../wire/base_path";

export function NoSerial({ problem }: { problem: SerialProblem }) {
  return (
    <section class="guide box" data-testid="no-serial" data-problem={problem}>
      <h1>Connect a board</h1>
      {problem === "insecure" && <Insecure />}
      {problem === "unsupported" && (
        <>
          <p>This browser has no serial ports for pages (Web Serial).</p>
          <p>Open this page in {SERIAL_BROWSERS}. Safari does not have it.</p>
        </>
      )}
      {problem === "forbidden" && (
        <>
          <p>A policy forbids serial ports to this page.</p>
          <p>
            If a proxy in front of the hub sets the header <code>Permissions-Policy</code>, let it contain{" "}
            <code>serial=(self)</code>. The policies of a company's browsers are shown at <code>chrome://policy</code>.
          </p>
        </>
      )}
      <p>
        Without the browser, the agent reads the port:{" "}
        <a class="link" href={withBase("/add")}>
          add a device
        </a>{" "}
        with <code>device-agent serial</code>.
      </p>
    </section>
  );
}

function Insecure() {
  const { port, pathname } = window.location;
  return (
    <>
      <p>
        This page was opened over http:// from another computer. Browsers give serial ports only to pages of https://,
        and to those of the computer itself.
      </p>
      <p>
        Open the hub over https:// (<code>docs/tls.md</code> has the settings). Or plug the board into the machine of
        the hub, and open{" "}
        <code>
          http://localhost{port === "" ? "" : `:${port}`}
          {pathname}
        </code>{" "}
        there.
      </p>
    </>
  );
}
