/** Progress of a job: a bar with a segment for each group of states, and the numbers. */

import { countsOf, segmentsOf } from "../../data/command_jobs";
import type { CommandJobDetails } from "../../wire/api";

export function Progress({ job }: { job: CommandJobDetails }) {
  const counts = countsOf(job);
  return (
    <div class="job-progress" data-testid="job-progress">
      <div class="job-bar" aria-hidden="true">
        {segmentsOf(job).map(({ part, amount }) => (
          <span key={part} class={`job-part ${part}`} data-part={part} style={{ flexGrow: amount }} />
        ))}
      </div>
      <ul class="job-counts">
        {counts.map(({ state, part, text }) => (
          <li key={state}>
            <span class={`job-part ${part}`} aria-hidden="true" />
            {text}
          </li>
        ))}
      </ul>
    </div>
  );
}
