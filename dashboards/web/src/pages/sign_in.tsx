/** Sign-in page: accepts a token and explains how to create one. */

import { useState } from "preact/hooks";
import { ApiError, signIn } from "../data/api";
import { CopyableCommand } from "../ui/controls";
import { Logo } from "../ui/icon";

export function SignInPage() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await signIn(token.trim());
      window.location.reload();
    } catch (error) {
      const refused = error instanceof ApiError && (error.status === 401 || error.status === 403);
      setProblem(
        refused
          ? "The hub does not know this token, or it was revoked. Nothing was changed."
          : error instanceof Error
            ? error.message
            : String(error),
      );
      setBusy(false);
    }
  };
  return (
    <main class="alone">
      <section class="card">
        <Logo />
        <h1>Sign in to the hub</h1>
        <p>The token becomes a cookie of this browser, and is kept nowhere else.</p>
        <form onSubmit={(event) => void submit(event)}>
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
          <button type="submit" class="button primary" disabled={busy || token.trim() === ""}>
            Sign in
          </button>
        </form>
        <div class="help">
          <p>No token? On the machine of the hub, make one:</p>
          <CopyableCommand text="hub token create --role viewer" />
          <p>Or print a one-time URL that signs this browser in, as the very first start does:</p>
          <CopyableCommand text="hub token url" />
        </div>
      </section>
    </main>
  );
}
