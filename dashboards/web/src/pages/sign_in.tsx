/** Sign-in page: accepts a token and explains how to create one. */

import { useState } from "preact/hooks";
import { ApiError, errorText, signIn } from "../data/api";
import { CopyableCommand } from "../ui/controls";
import { Logo } from "../ui/icon";

export function SignInPage() {
  return (
    <main class="alone">
      <section class="card">
        <Logo />
        <h1>Sign in to the hub</h1>
        <p>The token is stored in a cookie of this browser and nowhere else.</p>
        <TokenForm />
        <div class="help">
          <p>No token? Create one on the machine of the hub:</p>
          <CopyableCommand text="hub token create --role viewer" />
          <p>Or print a one-time URL that signs this browser in, as the first start of the hub does:</p>
          <CopyableCommand text="hub token url" />
        </div>
      </section>
    </main>
  );
}

function TokenForm() {
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
      const rejected = error instanceof ApiError && (error.status === 401 || error.status === 403);
      setProblem(rejected ? "The hub does not accept this token: it is unknown or revoked." : errorText(error));
      setBusy(false);
    }
  };
  return (
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
  );
}
