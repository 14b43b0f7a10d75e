"""Commands to the devices of one broker: who gets them, what confirms them, and what is never published twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hub.ingest.device import CommandLink, Device
from hub.model.batch import Mark
from hub.model.command import Undelivered
from hub.mqtt import command_links
from hub.mqtt.command_links import NO_SUBSCRIBER, CommandLinks, state_of
from hub.mqtt.message import (
    AvailabilityChange,
    CommandDelivery,
    Confirmation,
    Decoded,
    Decoder,
    DeviceCommands,
    Message,
    Publish,
    ReportedOutcome,
    Undeliverable,
)
from hub.mqtt.paho_client import EncodedProperties
from wire.command import CommandDeclaration
from wire.device import Command, CommandState
from wire.limits import MAX_COMMAND_BYTES


class SettingDecoder(Decoder):
    """Decoder of devices whose state is one word: what was set is published at <device>."""

    filters = ()

    def takes(self, topic: str) -> bool:
        return True

    def decode(self, message: Message) -> list[Decoded]:
        return []

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        if command.name == "forbidden":
            raise Undeliverable("wrong_parameters", "not with this device")
        if command.name == "defect":
            raise LookupError("a defect")
        if command.name not in ("set", "set_point"):
            return None
        word = str(command.parameters["word"]).encode()

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            if message.payload == b"error":
                return ReportedOutcome("rejected", "unknown_command")
            return ReportedOutcome("succeeded", result=word.decode()) if message.payload == word else None

        confirmation = Confirmation(frozenset((device,)), f"word {command.parameters.get('of')}", outcome)
        return CommandDelivery(Publish(f"{device}/set", word), confirmation, repeat=command.name == "set_point")

    def repeats(self, device: str) -> bool:
        return device == "lamp"

    def commands_of(self, device: str) -> list[CommandDeclaration]:
        return [CommandDeclaration("by_name")]


class Fleet:
    """The links of one broker, and what they did. The fleet is their inbox and their broker."""

    def __init__(self) -> None:
        self.present = {"lamp"}
        self.is_connected = True
        self.attached: dict[str, CommandLink] = {}
        self.sent: list[Publish] = []
        self.reported: list[CommandState | Undelivered] = []
        self.to_repeat: list[Command] = []
        self.found: list[DeviceCommands] = []
        self.declared: list[str] = []
        self.links = CommandLinks(
            self, [SettingDecoder()], declare=self.declare, publish=self.publish,
            report=lambda device, state: self.reported.append(state), found=self.found.append,
            is_present=self.present.__contains__, clock=lambda: 5,
        )  # fmt: skip

    async def start(self) -> None:
        commands = DeviceCommands("lamp", [CommandDeclaration("set")], is_complete=True)
        await self.links.record({"lamp": [commands]}, [])
        self.links.connected()

    def connected(self, device: str, link: CommandLink) -> None:
        self.attached[device] = link
        for command in self.to_repeat:
            link.send(command)

    def disconnected(self, device: str, link: CommandLink) -> None:
        assert self.attached.pop(device) is link

    async def report(self, device: str, report: CommandState | Undelivered) -> bool:
        self.reported.append(report)
        return True

    async def declare(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> None:
        self.declared = [declaration.name for declaration in commands]

    def publish(self, message: Publish, properties: EncodedProperties | None) -> int | None:
        if not self.is_connected:
            return None
        self.sent.append(message)
        return len(self.sent)

    def set(self, id: str, word: str, timeout_ms: int = 60_000) -> None:
        self.attached["lamp"].send(Command(id * 16, "set", {"word": word}, 1, timeout_ms))

    def state(self, word: str, *, retain: bool = False) -> None:
        self.links.received(Message("lamp", word.encode(), retain=retain), ())

    @property
    def ended(self) -> list[str]:
        return [
            f"{report.id[0]} {getattr(report, 'state', 'undelivered')} {report.code}".strip()
            for report in self.reported
        ]


async def fleet() -> Fleet:
    started = Fleet()
    await started.start()
    return started


async def test_a_device_gets_commands_while_it_and_the_broker_are_connected() -> None:
    """Its link exists only while both are, and its commands are known."""
    hub = await fleet()
    assert list(hub.attached) == ["lamp"]
    hub.links.disconnected()
    assert not hub.attached
    hub.links.connected()
    assert list(hub.attached) == ["lamp"]
    hub.present.clear()
    hub.links.connected()
    assert not hub.attached


async def test_a_state_confirms_the_command_that_set_it() -> None:
    """Not a retained one, and not another value. It is published once, at QoS 1, and not retained."""
    hub = await fleet()
    hub.set("a", "on")
    assert hub.sent == [Publish("lamp/set", b"on", 1)]
    hub.state("on", retain=True)
    hub.state("off")
    assert hub.ended == []
    hub.state("on")
    hub.state("on")
    assert hub.ended == ["a succeeded"]


async def test_of_several_commands_the_oldest_is_confirmed_first() -> None:
    """A state that an earlier command has caused does not confirm a later one to the same value."""
    hub = await fleet()
    for id, word in (("a", "1"), ("b", "2"), ("c", "1")):
        hub.set(id, word)
    hub.state("1")
    assert hub.ended == ["a succeeded"]
    hub.state("1")
    assert hub.ended == ["a succeeded"]
    hub.state("2")
    hub.state("1")
    assert hub.ended == ["a succeeded", "b succeeded", "c succeeded"]


async def test_an_error_without_a_name_is_about_the_oldest_command() -> None:
    """Also if the later one sets something else."""
    hub = await fleet()
    for id in ("a", "b"):
        hub.attached["lamp"].send(Command(id * 16, "set", {"word": "on", "of": id}, 1, 60_000))
    hub.state("error")
    assert hub.ended == ["a rejected unknown_command"]
    hub.state("on")
    assert hub.ended == ["a rejected unknown_command", "b succeeded"]


async def test_commands_of_a_name_are_found_with_its_first_presence() -> None:
    """Once for each device; a device that describes all of its commands keeps those of its name."""
    hub = await fleet()
    assert hub.declared == ["set", "by_name"]
    fan = Device("fan", Mark("fan", "", 0))
    hub.links.device_changed(fan)
    assert hub.found == []
    hub.present.add("fan")
    hub.links.device_changed(fan)
    hub.links.device_changed(fan)
    assert hub.found == [DeviceCommands("fan", [CommandDeclaration("by_name")])]


async def test_a_state_after_the_time_of_a_command_confirms_nothing() -> None:
    """Somebody else may have set it hours later."""
    hub = await fleet()
    hub.set("a", "on", timeout_ms=1)
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(0.002, passed.set_result, None)
    await passed
    hub.state("on")
    assert hub.ended == []


async def test_a_command_that_was_sent_before_an_interruption_is_not_published_again() -> None:
    """The device may have executed it: the inbox repeats what is not answered, and the broker does not get it. An
    acknowledgement of the new connection is about another message with the same number."""
    hub = await fleet()
    hub.set("a", "on")
    hub.links.disconnected()
    hub.to_repeat = [Command("a" * 16, "set", {"word": "on"}, 1, 60_000)]
    hub.links.connected()
    assert len(hub.sent) == 1
    hub.links.acknowledged(1, 0x87)
    hub.state("on")
    assert hub.ended == ["a succeeded"]


async def test_a_command_that_does_no_harm_twice_is_published_again() -> None:
    """After an interruption, and only then. A repetition that cannot be delivered says nothing about the first one."""
    hub = await fleet()
    assert hub.attached["lamp"].repeats
    command = Command("a" * 16, "set_point", {"word": "20"}, 1, 60_000)
    hub.attached["lamp"].send(command)
    hub.links.disconnected()
    hub.to_repeat = [command, Command("b" * 16, "unknown", {}, 1, 60_000)]
    hub.links.connected()
    assert [message.payload for message in hub.sent] == [b"20", b"20"]
    hub.state("20")
    assert hub.ended == ["a succeeded"]


@pytest.mark.parametrize(
    ("name", "code"), [("forbidden", "wrong_parameters"), ("defect", "decoder"), ("unknown", "unknown_command")]
)
async def test_a_command_that_cannot_be_published_is_rejected(name: str, code: str) -> None:
    """With the reason; a defect costs this command only."""
    hub = await fleet()
    hub.attached["lamp"].send(Command("a" * 16, name, {}, 1, 1_000))
    assert (hub.sent, hub.ended) == ([], [f"a rejected {code}"])


async def test_a_command_after_the_end_of_the_connection_is_not_delivered() -> None:
    """It was never published. The device gets no further one before the next connection."""
    hub = await fleet()
    hub.is_connected = False
    hub.set("a", "on")
    assert hub.ended == ["a undelivered not_published"]
    assert not hub.attached
    hub.links.connected()
    assert [*hub.attached] == ["lamp"]


async def test_a_device_that_has_not_subscribed_gets_commands_after_its_next_message() -> None:
    """Nothing of before counts: no retained message, none of another device. It may also leave, and return."""
    hub = await fleet()

    def say(*, device: str = "lamp", retain: bool = False) -> bool:
        row = AvailabilityChange(device, online=True)
        hub.links.received(Message("lamp", b"", retain=retain), [row])
        return "lamp" in hub.attached

    hub.set("a", "on")
    hub.links.acknowledged(1, NO_SUBSCRIBER)
    hub.links.disconnected()
    hub.links.connected()
    assert not hub.attached
    assert (say(retain=True), say(device="fan"), say(), say()) == (False, False, True, True)
    hub.set("b", "on")
    hub.links.acknowledged(2, NO_SUBSCRIBER)
    for is_present in (False, True):
        assert not hub.attached
        (hub.present.add if is_present else hub.present.discard)("lamp")
        hub.links.device_changed(Device("lamp", Mark("lamp", "", 0)))
    assert [*hub.attached] == ["lamp"]


@pytest.mark.parametrize(
    ("reason", "ended"),
    [(0x87, "rejected broker_refused"), (NO_SUBSCRIBER, "undelivered no_subscriber"), (0, "")],
)
async def test_the_acknowledgement_of_the_broker_is_no_success(reason: int, ended: str) -> None:
    """It only shows that nobody gets the message, or that the broker refuses it."""
    hub = await fleet()
    hub.set("a", "on")
    hub.links.acknowledged(1, reason)
    hub.links.acknowledged(1, reason)
    assert hub.ended == ([f"a {ended}"] if ended else [])
    hub.state("on")
    assert len(hub.ended) == 1


async def test_what_is_remembered_of_commands_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds the oldest command times out, and a further device gets none. What ends leaves nothing."""
    monkeypatch.setattr(command_links, "MAX_AWAITED", 1)
    monkeypatch.setattr(command_links, "MAX_UNACKNOWLEDGED", 1)
    monkeypatch.setattr(command_links, "MAX_DEVICES", 1)
    hub = await fleet()
    hub.set("a", "on")
    hub.set("b", "off")
    hub.links.acknowledged(1, 0x87)
    hub.state("on")
    hub.state("off")
    assert hub.ended == ["b succeeded"]
    assert [*hub.links._awaited, *hub.links._topics] == []
    for name in ("fan", "pump", "fan"):
        hub.present.add(name)
        hub.links.device_changed(Device(name, Mark(name, "", 0)))
    assert [found.device for found in hub.found] == ["fan", "pump", "fan"]
    hub.present.add("other")
    await hub.links.record({"other": [DeviceCommands("other", [CommandDeclaration("set")])]}, [])
    assert list(hub.attached) == ["lamp"]


def test_a_result_that_the_hub_does_not_keep_is_left_out() -> None:
    """A large one, or one that is no JSON value; control characters of a message, too."""
    longest = "x" * (MAX_COMMAND_BYTES - 2)
    for result, kept in ((longest, longest), (longest + "x", None), (object(), None)):
        assert state_of("a" * 16, ReportedOutcome("succeeded", result=result), 1).result == kept
    state = state_of("a" * 16, ReportedOutcome("failed", "device_error", "bad\x1b\n" + "y" * 1000), 1)
    assert state.message.startswith("bady")
    assert len(state.message) == 512
