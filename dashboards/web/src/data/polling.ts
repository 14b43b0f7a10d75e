/** Looks again now and then, while somebody can see it, and less often while it fails. */

const FIRST_MS = 5_000;
const LONGEST_MS = 60_000;

/** How long to wait after so many failures in a row; the random part (0 to 1) keeps pages from asking all at once. */
export function pause(failures: number, random: number): number {
  return Math.round(Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures, 10)) * (0.8 + 0.4 * random));
}

/** Begins to look, at once; the answer ends it. One look at a time; a page that comes into view looks at once. */
export function poll(look: () => Promise<void>): () => void {
  let timer = 0;
  let failures = 0;
  let looking = false;
  let ended = false;
  const next = async () => {
    clearTimeout(timer);
    if (ended || looking || document.visibilityState === "hidden") return;
    looking = true;
    try {
      await look();
      failures = 0;
    } catch {
      failures += 1;
    }
    looking = false;
    if (!ended) timer = window.setTimeout(() => void next(), pause(failures, Math.random()));
  };
  const seen = () => void next();
  document.addEventListener("visibilitychange", seen);
  void next();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
