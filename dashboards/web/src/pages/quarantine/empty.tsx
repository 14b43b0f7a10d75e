/** The quarantine when nothing is in it: the usual case. */

import { plural } from "../../data/quarantine";
import { Icon } from "../../ui/icon";

export function EmptyQuarantine({ dropped }: { dropped: number }) {
  return (
    <section class="teach" data-testid="empty-quarantine">
      <h1 class="quarantine-empty">
        <Icon name="done" /> Nothing is in quarantine
      </h1>
      <p>
        No batch waits for a decision. One that cannot be accepted or stored, because a metric was not
        declared or a value is no number, is kept here with its reason: to be read, put right and retried, or
        deleted.
      </p>
      {dropped > 0 && (
        <p>{plural(dropped, "older message")} had to make room before, because the quarantine is bounded.</p>
      )}
    </section>
  );
}
