"""A bridge with real brokers: its state, its presence, its subscriptions, and what settings cannot work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from hub.ingest.device import Devices
from hub.ingest.recent_readings import RecentReadings
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Entry
from hub.mqtt.bridge import NOT_AUTHORIZED, Bridge, BridgePlan
from hub.mqtt.connection import BrokerOptions
from hub.mqtt.decoders.configured import configured_decoders
from hub.mqtt.decoders.mapping import TopicMapping
from hub.mqtt.inbound import Inbound
from hub.mqtt.message import Publish
from hub.mqtt.publication import Publication
from hub.mqtt.subscriptions import SubscriptionStore
from hub.mqtt.topics import TopicTemplate
from hub.registry.directory import DeviceDirectory
from hub.registry.registry import Registry
from tests.conditions import until
from tests.hub.mqtt.connection import connected
from tests.hub.mqtt.small_broker import ReceivedPublish, small_broker
from tests.services.mosquitto import Mosquitto
from tests.tasks import running_task

VALUES = TopicMapping("s/{device}/{metric}", "value")
OTHERS = TopicMapping("o/{device}/{metric}", "value")


def plan_of(
    port: int = 1883,
    mappings: Sequence[TopicMapping] = (VALUES,),
    *,
    publications: Sequence[str] = (),
    host_id: str = "",
    discovery: bool = False,
    status_topic: str = "hub/status",
) -> BridgePlan:
    options = BrokerOptions("127.0.0.1", port, "hub", session_expiry_s=600)
    published = [Publication(TopicTemplate.parse(topic)) for topic in publications]
    decoders = configured_decoders(mappings, [], host_id=host_id)
    return BridgePlan(options, decoders, published, "homeassistant", discovery, status_topic)


class Running(NamedTuple):
    """A bridge that runs, and the readings that became durable."""

    bridge: Bridge
    durable: list[Entry]

    async def phase(self, phase: str) -> None:
        await until(lambda: self.bridge.state.phase == phase)


@asynccontextmanager
async def running(directory: Path, plan: BridgePlan) -> AsyncIterator[Running]:
    durable: list[Entry] = []
    async with (
        Registry(directory / "registry.db", clock=lambda: 5) as registry,
        Journal(directory / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal,
    ):
        devices = Devices(journal, clock=lambda: 7, on_committed=durable.extend, latest_time_ns=lambda _: -1)
        bridge = Bridge(plan, name="home", address="mqtt://broker", store=SubscriptionStore(directory / "filters.json"))
        bridge.inbound = Inbound(
            devices,
            DeviceDirectory(registry, journal, LiveHub(offset=0), clock=lambda: 7),
            [configured.decoder for configured in plan.decoders],
            name="home",
            hub="f" * 32,
            options=plan.options,
            subscriptions=bridge.subscriptions,
            recent=RecentReadings(),
            publish=bridge.publish,
        )
        async with running_task(bridge.run()):
            yield Running(bridge, durable)


@pytest.fixture
def mosquitto(mosquitto_program: Path, tmp_path: Path) -> Mosquitto:
    return Mosquitto(mosquitto_program, tmp_path / "broker")


async def test_the_state_follows_the_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Connecting, connected with the version, waiting with the reason, and connected again."""
    with mosquitto as broker:
        async with running(tmp_path, plan_of(broker.port)) as hub:
            first = hub.bridge.state
            assert (first.name, first.address, first.phase, first.version) == (
                "home",
                "mqtt://broker",
                "connecting",
                "",
            )
            await hub.phase("connected")
            state = hub.bridge.state
            assert (state.version, state.last_error) == ("5", None)
            assert state.since_ns > first.since_ns
            await asyncio.to_thread(broker.stop)
            await hub.phase("waiting")
            assert hub.bridge.state.last_error
            await asyncio.to_thread(broker.start)
            await hub.phase("connected")
            assert hub.bridge.state.last_error is None


async def test_the_broker_shows_whether_the_hub_is_there(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The retained status is online from the connection on, and offline after the bridge has ended."""
    with mosquitto as broker:
        async with connected(broker.port) as watcher:
            await watcher.subscribe("hub/status")
            async with running(tmp_path, plan_of(broker.port)):
                assert [m.payload for m in await watcher.got(1)] == [b"online"]
            assert [m.payload for m in await watcher.got(2)] == [b"online", b"offline"]


async def test_a_message_becomes_durable_and_is_counted(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Through the bridge's subscriptions; a host's or decoder's own messages are published."""
    with mosquitto as broker:
        async with running(tmp_path, plan_of(broker.port)) as hub, connected(broker.port) as client:
            await hub.phase("connected")
            client.connection.publish(Publish("s/pump/flow", b"1.5", 1))
            await until(lambda: bool(hub.durable))
            assert [entry.device for entry in hub.durable] == ["pump"]
            assert hub.bridge.state.inward is not None
            assert (hub.bridge.state.inward.accepted, hub.bridge.state.outward) == (1, None)
            await client.subscribe("from/hub")
            hub.bridge.publish(Publish("from/hub", b"x", 1))
            assert [message.payload for message in await client.got(1)] == [b"x"]
    hub.bridge.publish(Publish("from/hub", b"dropped"))


async def test_subscriptions_of_earlier_settings_are_removed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps the session longer than the hub its settings: messages of the old filter stay out."""
    with mosquitto as broker:
        async with running(tmp_path, plan_of(broker.port, [VALUES, OTHERS])) as hub:
            await hub.phase("connected")
            await until(lambda: "o/+/+" in (tmp_path / "filters.json").read_text())
        async with running(tmp_path, plan_of(broker.port)) as hub, connected(broker.port) as client:
            await hub.phase("connected")
            await until(lambda: "o/+/+" not in (tmp_path / "filters.json").read_text())
            client.connection.publish(Publish("o/pump/flow", b"1", 1))
            client.connection.publish(Publish("s/pump/flow", b"2", 1))
            await until(lambda: bool(hub.durable))
            inward = hub.bridge.state.inward
            assert inward is not None
            assert inward.received == 1


def accept(_: ReceivedPublish) -> int:
    return 0


async def test_a_refused_subscription_is_reported_and_remembered(tmp_path: Path) -> None:
    """All others stay. After a restart nothing is requested twice because of it."""
    async with small_broker(accept, refused=["o/+/+"]) as broker:
        for _ in range(2):
            async with running(tmp_path, plan_of(broker.port, [VALUES, OTHERS])) as hub:
                await until(lambda: hub.bridge.state.last_error is not None)
                state = hub.bridge.state
                assert state.phase == "connected"
                assert state.last_error == "the broker refuses the subscription o/+/+: this user may not read it"
                assert hub.bridge.subscriptions.refused == {"o/+/+"}
            assert SubscriptionStore(tmp_path / "filters.json").refused == ["o/+/+"]


async def test_an_old_broker_is_reported_with_its_version(tmp_path: Path) -> None:
    """MQTT 3.1.1 is used when MQTT 5 is not understood."""
    async with small_broker(accept, version=4) as broker, running(tmp_path, plan_of(broker.port)) as hub:
        await hub.phase("connected")
        assert hub.bridge.state.version == "3.1.1"


def make(plan: BridgePlan, directory: Path) -> Bridge:
    return Bridge(plan, name="home", address="mqtt://broker", store=SubscriptionStore(directory / "filters.json"))


def test_a_connection_has_one_will(tmp_path: Path) -> None:
    """The death certificate of a host application, else the status, else none; Home Assistant reads the same topic."""
    bridge = make(plan_of(), tmp_path)
    assert bridge.will() == Publish("hub/status", b"offline", 1, True)
    assert bridge.availability == {"topic": "hub/status"}
    silent = make(plan_of(status_topic=""), tmp_path)
    assert (silent.will(), silent.availability) == (None, None)
    host = make(plan_of(mappings=[], host_id="plant"), tmp_path)
    will = host.will()
    assert will is not None
    assert (will.topic, will.retain, b'"online":false' in will.payload.replace(b" ", b"")) == (
        "spBv1.0/STATE/plant", True, True
    )  # fmt: skip
    availability = host.availability
    assert availability is not None
    assert availability["topic"] == "spBv1.0/STATE/plant"


def test_a_rejected_publication_is_reported(tmp_path: Path) -> None:
    """With the reason in words where there is one, else with its number."""
    bridge = make(plan_of(), tmp_path)
    bridge.inbound = None  # type: ignore[assignment]
    for reason, words in ((NOT_AUTHORIZED, "this user may not publish there"), (0x97, "reason code 0x97")):
        bridge.publish_refused(reason)
        assert bridge._last_error is not None
        assert bridge._last_error.endswith(words)


def test_a_filter_of_two_decoders_is_requested_once() -> None:
    """As the last of them needs it. Home Assistant's birth is requested only with published readings."""
    plan = plan_of(mappings=[VALUES, VALUES._replace(qos=0, payload="json"), OTHERS])
    assert {(wanted.filter, wanted.qos) for wanted in plan.subscriptions} == {("s/+/+", 0), ("o/+/+", 1)}
    assert len(plan.subscriptions) == 2
    published = plan_of(publications=["hub/{device}/{metric}"], discovery=True)
    assert any(wanted.filter.startswith("homeassistant") for wanted in published.subscriptions)
    assert not any(wanted.filter.startswith("homeassistant") for wanted in plan.subscriptions)


def test_messages_that_would_return_are_an_error_of_the_settings() -> None:
    """Readings would circulate for ever."""
    plan_of(publications=["hub/{device}/{metric}"]).check()
    with pytest.raises(ValueError, match="would return through the subscription"):
        plan_of(publications=["s/{device}/{metric}"]).check()


def test_the_host_application_is_one_of_the_decoders() -> None:
    """There is one with a host id, or with a subscription to Sparkplug."""
    assert plan_of().host is None
    assert plan_of(host_id="plant").host is not None
    assert plan_of(mappings=[TopicMapping("spBv1.0/#", "sparkplug")]).host is not None
