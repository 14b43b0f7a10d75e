/** No broker yet: how one is joined, in five lines of settings. */

import { Command } from "../../ui/copy_button";

const SETTINGS = `[[mqtt]]
url = "mqtt://localhost:1883"
presets = ["zigbee2mqtt"]
subscribe = [{ topic = "sensors/{device}/{metric}", payload = "value" }]
publish = [{ topic = "hub/{device}/{metric}" }]`;

export function EmptyMqtt() {
  return (
    <section class="teach" data-testid="empty-mqtt">
      <h1>Join a broker</h1>
      <p>
        What devices publish on MQTT becomes readings here, and what this hub has goes out to everyone who
        listens there.
      </p>
      <ol>
        <li>
          <span class="step">1</span>
          <div>
            <h2>See what it would store</h2>
            <p>It listens for some seconds, explains what it finds and stores nothing.</p>
            <Command text="hub mqtt check --url mqtt://localhost:1883 --topic '#'" />
          </div>
        </li>
        <li>
          <span class="step">2</span>
          <div>
            <h2>Say it in the settings</h2>
            <p>Keep the lines that you need: a preset, topics that come in, topics that go out.</p>
            <Command text={SETTINGS} />
          </div>
        </li>
        <li>
          <span class="step">3</span>
          <div>
            <h2>Start the hub with them</h2>
            <Command text="hub run --config hub.toml" />
          </div>
        </li>
      </ol>
    </section>
  );
}
