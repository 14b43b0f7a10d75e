/** What the hub tells of itself again and again, for a page: asked while the page is open. */

import { useEffect, useState } from "preact/hooks";
import { type Look, Looks } from "../data/looks";
import { Icon } from "./icon";

export interface Asked<Told> {
  /** The newest look; undefined before the first answer. */
  look: Look<Told> | undefined;
  /** An earlier one, to make rates of both; undefined while there is only one. */
  before: Look<Told> | undefined;
  /** Why the newest look is not of now; null while it is. */
  problem: string | null;
}

export function useLooks<Told>(fetch: () => Promise<Told>): Asked<Told> {
  const [feed] = useState(() => new Looks(fetch));
  useEffect(() => {
    feed.start();
    return () => feed.stop();
  }, [feed]);
  const looks = feed.looks.value;
  return {
    look: looks.at(-1),
    before: looks.length > 1 ? looks[0] : undefined,
    problem: feed.problem.value,
  };
}

export function StaleNote({ problem }: { problem: string | null }) {
  if (problem === null) return null;
  return (
    <p class="flow-problem" role="status">
      <Icon name="warning" />
      {problem} The numbers are of the last answer; this page asks again by itself.
    </p>
  );
}
