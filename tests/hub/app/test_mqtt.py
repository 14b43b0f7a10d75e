"""Composition of bridges: what the settings make of them, and what stays of bridges that are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.app.errors import HubError
from hub.app.mqtt import broker_check, check_bridges
from hub.config.mqtt import MqttSettings
from hub.mqtt.discovery import Discovery
from hub.mqtt.message import Message
from hub.registry.database import FILE_NAME
from hub.registry.registry import Registry
from tests.hub.http.opened_hub import opened_hub
from wire.model import Metric

VALUES = {"topic": "s/{device}/{metric}", "payload": "value"}
OUT = {"topic": "out/{device}/{metric}"}


def broker(name: str = "home", **values: Any) -> MqttSettings:
    return MqttSettings(name=name, url="mqtt://127.0.0.1:1", **values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"subscribe": [{"topic": "s/#", "payload": "function", "function": "gone.py"}]}, "gone.py"),
        ({"publish": [OUT], "subscribe": [{"topic": "{device}/#"}]}, "would return through the subscription"),
        ({"subscribe": [VALUES], "user": "u", "password_file": "gone"}, "gone"),
        (
            {
                "subscribe": [VALUES],
                "allow_commands": True,
                "commands": [{"name": "stop", "topic": "a/{device}", "payload": "{speed}"}],
            },
            "the payload contains {speed}, which is no parameter: there are device, id",
        ),
    ],
)
def test_settings_that_cannot_work_name_their_bridge(values: dict[str, Any], says: str) -> None:
    """Before anything is opened: files that are missing, and readings that would circulate."""
    check_bridges([broker("good", subscribe=[VALUES])])
    with pytest.raises(HubError) as error:
        check_bridges([broker("good", subscribe=[VALUES]), broker("bad", **values)])
    assert str(error.value).startswith("mqtt bad: ")
    assert says in str(error.value)


async def test_a_trial_has_a_client_id_of_its_own(tmp_path: Path) -> None:
    """It must not end the connection of the bridge that runs."""
    settings = broker(subscribe=[VALUES], client_id="mine")
    ids = set()
    for _ in range(2):
        async with broker_check(settings, zone="UTC", data=tmp_path) as check:
            ids.add(check._options.client_id)
    assert len(ids) == 2
    assert "mine" not in ids
    assert not list(tmp_path.iterdir())


async def test_a_trial_knows_the_types_of_the_hub_and_changes_nothing(tmp_path: Path) -> None:
    """It works on a copy of the registry, also while the hub runs."""
    async with Registry(tmp_path / FILE_NAME) as registry:
        await registry.declare("boiler", [Metric("t", "boolean"), Metric("n", "integer")])
        async with broker_check(broker(subscribe=[VALUES]), zone="UTC", data=tmp_path) as check:
            await check.add(Message("s/boiler/t", b"21.5"))
            await check.add(Message("s/boiler/n", b"21.5"))
            await check.add(Message("s/new/n", b"21.5"))
        n, t, new = (topic["readings"] or topic["refused"] for topic in check.topic_report())
        assert t == {"type": "t: 21.5 is neither true nor false; run `hub metric retype boiler t string`"}
        assert [reading["type"] for reading in [*n, *new]] == ["float", "float"]  # type: ignore[misc]
        assert [*registry.devices] == ["boiler"]
        assert registry.devices["boiler"].series["n"].type == "integer"


async def test_each_part_of_a_bridge_exists_where_the_settings_need_it(tmp_path: Path) -> None:
    """A bridge that publishes has the outbound side, and announcements, which also remove earlier ones."""
    settings = [broker("in", subscribe=[VALUES]), broker("out", publish=[OUT]), broker("host", host_id="plant")]
    async with opened_hub(tmp_path, mqtt=settings) as services:
        inbound, outbound, host = services.bridges
        assert [bridge.name for bridge in services.bridges] == ["in", "out", "host"]
        assert (inbound.outbound, inbound.discovery, inbound.state.outward) == (None, None, None)
        assert outbound.outbound is not None
        assert isinstance(outbound.discovery, Discovery)
        assert (host.state.sparkplug, host.state.outward) == ({}, None)
        assert outbound.availability == {"topic": f"telemetry-hub-{services.registry.id[:8]}-out/status"}


async def test_a_bridge_that_is_gone_keeps_nothing_in_the_journal(tmp_path: Path) -> None:
    """Its cursor would keep the journal from deleting entries until it is full. The others keep theirs."""
    settings = [broker("a", publish=[OUT]), broker("b", publish=[OUT])]
    async with opened_hub(tmp_path, mqtt=settings) as services:
        assert {"mqtt:a", "mqtt:b"} <= {consumer.name for consumer in services.journal.consumers()}
    async with opened_hub(tmp_path, mqtt=settings[:1]) as services:
        names = {consumer.name for consumer in services.journal.consumers()}
        assert "mqtt:a" in names
        assert "mqtt:b" not in names
    async with opened_hub(tmp_path, mqtt=[broker("a", subscribe=[VALUES])]) as services:
        assert not any(consumer.name.startswith("mqtt:") for consumer in services.journal.consumers())
