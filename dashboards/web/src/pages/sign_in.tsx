/** Sign-in page: accepts a token and explains how to create one. */

import { useState } from "preact/hooks";
import { ApiError, signIn } from "../data/api";
import { CopyableCommand, PageMessage, useAction } from "../ui/controls";
import { Logo } from "../ui/icon";
import { route } from "../ui/route";
import { withBase } from "../wire/base_path";

export function SignInPage() {
  const expired = route.value.page === "sign-in";
  return (
    <main class="alone">
      <section class="card box">
        <Logo />
        <h1>Sign in to the hub</h1>
        {expired && <ExpiredUrl />}
        <TokenForm />
        <p>
          This browser does not keep the token. It gets a random cookie with the rights of the token, for at most 30
          days.
        </p>
        <div class="help">
          <p>No token? Create one on the machine of the hub:</p>
          <CopyableCommand text="hub token create --role viewer" />
          {!expired && (
            <>
              <p>Or print a one-time URL that signs this browser in, as the first start of the hub does:</p>
              <CopyableCommand text="hub token url" />
            </>
          )}
          <p>
            Add <code>--data DIRECTORY</code> if the hub was started with it. With Docker Compose, put{" "}
            <code>docker compose exec hub</code> before the command.
          </p>
        </div>
      </section>
    </main>
  );
}

/** Explanation for a browser that opened a one-time URL again or too late. */
function ExpiredUrl() {
  return (
    <div class="expired-url" role="status" data-testid="expired-url">
      <p>
        <strong>This sign-in URL does not work any more.</strong> It was opened before, or it is older than 15 minutes.
        Print a new one on the machine of the hub, and open it here:
      </p>
      <CopyableCommand text="hub token url" />
    </div>
  );
}

/** The page behind an old one-time URL, for a browser that is signed in anyway. */
export function SignedInPage() {
  return (
    <PageMessage title="You are signed in" hasLink>
      The sign-in URL does not work any more, and this browser does not need it.
    </PageMessage>
  );
}

function TokenForm() {
  const [token, setToken] = useState("");
  const { running, problem, run } = useAction(async () => {
    try {
      await signIn(token.trim());
    } catch (error) {
      const isRejected = error instanceof ApiError && error.isRejection;
      throw isRejected ? new Error("The hub does not accept this token: it is unknown or revoked.") : error;
    }
    window.location.assign(route.value.page === "sign-in" ? withBase("/") : window.location.href);
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void run();
      }}
    >
      <label for="token">Token</label>
      <input
        id="token"
        class="field"
        type="password"
        autocomplete="off"
        spellcheck={false}
        required
        value={token}
        aria-invalid={problem !== null}
        onInput={(event) => setToken(event.currentTarget.value)}
      />
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <button type="submit" class="button primary" disabled={running || token.trim() === ""}>
        Sign in
      </button>
    </form>
  );
}
