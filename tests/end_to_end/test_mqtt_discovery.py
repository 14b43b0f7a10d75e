"""Home Assistant and a real hub with a real Mosquitto, from a device's first reading to its removal."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent import Agent, Limits, Metric
from tests.conditions import until
from tests.end_to_end.bridged_hub import connected, publish
from tests.end_to_end.home_assistant import SETTINGS, HomeAssistant
from tests.end_to_end.hub import running_hub
from tests.end_to_end.mqtt_peers import Subscriber
from tests.services.mosquitto import Mosquitto


@pytest.mark.deadline(120)
async def test_a_device_is_announced_available_while_connected_and_removed(
    mosquitto_program: Path, tmp_path: Path
) -> None:
    """A device is announced with its first reading, unavailable while its agent or the hub is gone, announced again
    when Home Assistant starts, and removed when discovery is switched off. Its commands and
    settings are controls while it has them."""
    settings = tmp_path / "hub.toml"
    home = HomeAssistant()
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        options = ["--config", str(settings)]
        async with Subscriber(broker.port, "home-assistant", "#", home.receive) as ear:
            settings.write_text(SETTINGS.format(url=broker.url, enabled="true"))
            async with running_hub(tmp_path / "data", options=options) as hub:
                await connected(hub)
                token = await hub.token("gateway", "--devices", "*")
                metrics = [Metric("temperature", unit="°C")]
                targets: list[float] = []
                agent = Agent(hub.url, device="boiler.1", token=token, metrics=metrics)

                @agent.command("set_target", limits={"target": Limits(5, 90, unit="°C")})
                def set_target(target: float) -> None:
                    targets.append(target)

                @agent.setting("pressure", min=0, max=6, unit="bar")
                def set_pressure(value: float) -> None:
                    targets.append(value)

                async with agent:
                    await agent.send({"temperature": 21.5})
                    await agent.drain(30)
                    await ear.until(lambda: bool(home.described()) and home.is_available(home.described()[0]))
                    (described,) = home.described()
                    assert described["device"]["name"] == "boiler.1"
                    (component,) = [part for part in described["components"].values() if part["platform"] == "sensor"]
                    control = home.controls()["set_target"]
                    assert (control["platform"], control["min"], control["max"]) == ("number", 5, 90)
                    publish(broker, [(control["command_topic"], "55.5")])
                    await until(lambda: targets == [55.5])
                    await ear.until(lambda: "pressure" in home.controls())
                    control = home.controls()["pressure"]
                    publish(broker, [(control["command_topic"], "2.5")])
                    await ear.until(lambda: home.retained.get(control["state_topic"]) == b"2.5")
                    assert targets == [55.5, 2.5]
                    assert (component["device_class"], component["unit_of_measurement"]) == ("temperature", "°C")
                    await ear.until(lambda: home.retained.get(component["state_topic"]) == b"21.5")
                    await ear.until(lambda: home.presence("boiler.1") == "connected")
                    (config,) = (topic for topic in home.retained if topic.endswith("/config"))
                    announced = home.count(config)
                    publish(broker, [("homeassistant/status", "online")])
                    await ear.until(lambda: home.count(config) == announced + 1)
                await ear.until(lambda: not home.is_available(described))
                await ear.until(lambda: home.presence("boiler.1") == "offline")
                assert home.retained["hub-7/status"] == b"online"
                async with Agent(hub.url, device="boiler.1", token=token, metrics=metrics):
                    await ear.until(lambda: home.is_available(described))
                    await ear.until(lambda: not home.controls())
                    (changed,) = home.described()
                    assert {"platform": "number"} in changed["components"].values()
                    await hub.kill()
                    await ear.until(lambda: not home.is_available(described))
                    assert home.described() == [changed]
                    await hub.start()
                    await ear.until(lambda: home.is_available(described))
                    await ear.until(lambda: home.presence("boiler.1") == "connected")
            settings.write_text(SETTINGS.format(url=broker.url, enabled="false"))
            async with running_hub(tmp_path / "data", options=options):
                await ear.until(lambda: not home.described())
                own = config.removesuffix("config")
                await ear.until(
                    lambda: {payload for topic, payload in home.retained.items() if topic.startswith(own)} == {b""}
                )
