/** What keeps the hub from its work, on every page: nobody has to look for it. */

import { hub } from "../data/hub";
import { Icon } from "./icon";
import { troublesOf } from "./trouble_words";

/** Nothing while the page is offline: then that is what there is to say. */
export function TroubleBanner() {
  if (hub.connection.status.value.state !== "live") return null;
  return troublesOf(hub.info.value?.problems ?? {}).map(({ part, title, detail, meaning }) => (
    <div key={part} class="banner critical" role="alert" data-testid="trouble">
      <Icon name="warning" />
      <span class="trouble">
        <strong>{title}</strong> {detail} {meaning}
      </span>
    </div>
  ));
}
