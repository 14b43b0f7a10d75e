"""Commands to the devices of one broker: which device can get them now, and what its messages show about them.

A device of a broker has no memory of the ids of commands, and the broker's acknowledgement says only that the broker
has the message. A command is therefore published once, and has succeeded only when a message of the device shows it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import structlog

from formats.message import DecodedRow
from hub.ingest.device import CommandInbox, Device
from hub.model.command import Undelivered
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
from hub.mqtt.paho_client import EncodedProperties, encode_response
from wire.command import CommandDeclaration, result_problem
from wire.device import Command, CommandState
from wire.limits import MAX_MESSAGE

MAX_AWAITED = 4_096
"""Commands whose confirmation is awaited. Beyond it the oldest is no longer compared with messages, and times out."""

MAX_UNACKNOWLEDGED = 4_096
"""Published commands without the broker's acknowledgement. Beyond it a refusal of the oldest is not noticed."""

MAX_DEVICES = 10_000
"""Devices of one broker that can get commands, as many as decoders remember. Further ones get none."""

NO_SUBSCRIBER, FIRST_FAILURE = 0x10, 0x80
"""Reason codes of PUBACK (MQTT 5.0, table 3-4): nobody has subscribed to the topic; all from here on are failures."""

log = structlog.get_logger(__name__)


class DeclareCommands(Protocol):
    """Function that makes commands of a device durable. `replace`: these are all of them."""

    async def __call__(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> None:
        """Record the commands. Raises WireError."""


class DeviceCommandLink:
    """Way of the commands of one device through its broker. Implements hub.ingest.device.CommandLink."""

    __slots__ = ("_links", "device")

    def __init__(self, links: CommandLinks, device: str) -> None:
        self._links = links
        self.device = device

    @property
    def repeats(self) -> bool:
        """Return whether the device has commands that it may execute twice. It recognises none that it had before."""
        return self._links.repeats(self.device)

    def send(self, message: Command) -> None:
        """Publish a command. A command that cannot be published is reported as rejected."""
        self._links.send(self.device, message)


@dataclass(slots=True)
class AwaitedCommand:
    """Published command that a message of its device has to confirm until `deadline_s` of the event loop's clock."""

    device: str
    id: str
    confirmation: Confirmation
    deadline_s: float


class CommandLinks:
    """Commands to the devices of one broker. Its owner calls each method when it happens; only `record` waits."""

    def __init__(
        self,
        inbox: CommandInbox,
        decoders: Sequence[Decoder],
        *,
        declare: DeclareCommands,
        publish: Callable[[Publish, EncodedProperties | None], int | None],
        report: Callable[[str, CommandState | Undelivered], None],
        found: Callable[[DeviceCommands], None],
        is_present: Callable[[str], bool],
        clock: Callable[[], int],
    ) -> None:
        """`declare` makes the commands of a device durable. `publish` returns the id of a message, None without a
        connection. `report` gets a state, and `found` gets commands, for a later `record`. `is_present` returns whether
        a device is connected through this broker."""
        self._inbox = inbox
        self._decoders = decoders
        self._declare = declare
        self._publish = publish
        self._report = report
        self._found = found
        self._is_present = is_present
        self._clock = clock
        self._is_connected = False
        self._is_attaching = False
        self._links: dict[str, DeviceCommandLink] = {}
        self._attached: set[str] = set()
        self._silent: set[str] = set()
        """Devices that nothing reaches, until a message of theirs arrives."""
        self._seen: set[str] = set()
        self._awaited: OrderedDict[str, AwaitedCommand] = OrderedDict()
        self._topics: dict[str, OrderedDict[str, AwaitedCommand]] = {}
        self._unacknowledged: OrderedDict[int, tuple[str, str]] = OrderedDict()

    # The broker and its devices.

    def connected(self) -> None:
        """Send commands from now on: the broker is connected."""
        self._is_connected = True
        for device in self._links:
            self._update(device)

    def disconnected(self) -> None:
        """Send no commands: the broker is not connected."""
        self._is_connected = False
        self._unacknowledged.clear()
        for device in [*self._attached]:
            self._update(device)

    async def record(
        self, found: Mapping[str, Sequence[DeviceCommands]], reports: Sequence[tuple[str, CommandState | Undelivered]]
    ) -> None:
        """Record commands of devices and states of commands, durable on return. Raises WireError."""
        # Together: the registry writes in one commit what waits for it.
        await asyncio.gather(*(self._inbox.report(device, report) for device, report in reports))
        for device, described in found.items():
            for commands in described:
                known = [*commands.commands, *self._commands_of(device)] if commands.is_complete else commands.commands
                await self._declare(device, known, replace=commands.is_complete)
            if any(commands.commands for commands in described):
                self._declared(device)

    def _declared(self, device: str) -> None:
        if device not in self._links:
            if len(self._links) >= MAX_DEVICES:
                log.warning("too many devices with commands, a device gets none", device=device, maximum=MAX_DEVICES)
                return
            self._links[device] = DeviceCommandLink(self, device)
        self._update(device)

    def device_changed(self, device: Device) -> None:
        """Follow the presence of a device. The first time that it is present, note the commands of its name."""
        if device.id in self._links:
            if not self._is_present(device.id):
                self._silent.discard(device.id)
            self._update(device.id)
        elif device.id not in self._seen and self._is_present(device.id):
            if len(self._seen) >= MAX_DEVICES:
                self._seen.clear()
            self._seen.add(device.id)
            commands = self._commands_of(device.id)
            if commands:
                self._found(DeviceCommands(device.id, commands))

    def repeats(self, device: str) -> bool:
        """Return whether a device has commands that it may execute twice."""
        return any(decoder.repeats(device) for decoder in self._decoders)

    def _commands_of(self, device: str) -> list[CommandDeclaration]:
        return [*chain.from_iterable(decoder.commands_of(device) for decoder in self._decoders)]

    def _update(self, device: str) -> None:
        link = self._links[device]
        is_reachable = self._is_connected and self._is_present(device) and device not in self._silent
        if is_reachable and device not in self._attached:
            self._attached.add(device)
            self._is_attaching = True
            try:
                self._inbox.connected(device, link)
            finally:
                self._is_attaching = False
        elif not is_reachable and device in self._attached:
            self._attached.discard(device)
            self._inbox.disconnected(device, link)

    # Commands.

    def send(self, device: str, command: Command) -> None:
        """Publish a command, and await what confirms it.

        One that the inbox repeats is published again only if the device may execute it twice.
        """
        is_repeated = self._is_attaching
        try:
            delivery = self._delivery(device, command)
        except Undeliverable as error:
            self._reject(device, command.id, error.code, error.sentence, is_repeated)
            return
        except Exception as error:
            # A defect of a decoder costs this command, and not the connection.
            log.exception("command could not be encoded", device=device, command=command.name)
            sentence = f"the hub could not encode it: {type(error).__name__}"
            self._reject(device, command.id, "decoder", sentence, is_repeated)
            return
        if is_repeated and not delivery.repeat:
            return
        encoded = encode_response(delivery.response_topic, delivery.correlation)
        properties = EncodedProperties(encoded) if encoded else None
        message_id = self._publish(delivery.publish._replace(qos=delivery.qos, retain=False), properties)
        if message_id is None:
            sentence = "the connection to the broker ended before the command was published"
            self.disconnected()
            if not is_repeated:
                self._report(device, Undelivered(command.id, "not_published", sentence))
            return
        if not is_repeated:
            self._unacknowledged[message_id] = device, command.id
        if len(self._unacknowledged) > MAX_UNACKNOWLEDGED:
            self._unacknowledged.popitem(last=False)
        if delivery.confirmation is not None:
            self._await(device, command, delivery.confirmation)

    def acknowledged(self, message_id: int, reason: int) -> None:
        """Report a command that the broker refused, or that nobody gets. Its success means only that the broker has
        it."""
        device, id = self._unacknowledged.pop(message_id, ("", ""))
        if not id:
            return
        if reason == NO_SUBSCRIBER:
            self._discard(id)
            self._silent.add(device)
            self._update(device)
            sentence = "no client of the broker has subscribed to the device's topic"
            self._report(device, Undelivered(id, "no_subscriber", sentence))
        elif reason >= FIRST_FAILURE:
            self._discard(id)
            sentence = f"the broker refused the message (reason code 0x{reason:02X}): allow this user to publish it"
            self._reject(device, id, "broker_refused", sentence)

    def received(self, message: Message, decoded: Sequence[Decoded]) -> None:
        """Compare a message with the commands that it may confirm. A retained one is older than the command.

        An error that does not name its command is about the oldest one. A device that nothing reached may be back.
        """
        if self._silent and not message.retain:
            for device in {item.device for item in decoded if isinstance(item, DecodedRow | AvailabilityChange)}:
                if device in self._silent:
                    self._silent.discard(device)
                    self._update(device)
        awaited = self._topics.get(message.topic)
        if awaited is None or message.retain:
            return
        now_s = asyncio.get_running_loop().time()
        blocked: set[tuple[str, str]] = set()
        for command in [*awaited.values()]:
            subject = command.device, command.confirmation.subject
            if command.deadline_s < now_s:
                self._discard(command.id)
            elif subject not in blocked:
                try:
                    outcome = command.confirmation.outcome(message, decoded)
                except Exception:  # a defect of a decoder: the command times out
                    log.exception("confirmation could not be read", device=command.device, topic=message.topic)
                    outcome = None
                if outcome is None:
                    blocked.add(subject)
                    continue
                if outcome.state != "received":
                    self._discard(command.id)
                self._report(command.device, state_of(command.id, outcome, self._clock()))
                if outcome.state in ("failed", "rejected"):
                    return

    def _delivery(self, device: str, command: Command) -> CommandDelivery:
        for decoder in self._decoders:
            delivery = decoder.delivery(device, command)
            if delivery is not None:
                return delivery
        raise Undeliverable("unknown_command", f"the device does not take {command.name} through its broker any more")

    def _await(self, device: str, command: Command, confirmation: Confirmation) -> None:
        deadline_s = asyncio.get_running_loop().time() + command.timeout_ms / 1000
        awaited = AwaitedCommand(device, command.id, confirmation, deadline_s)
        if len(self._awaited) >= MAX_AWAITED:
            self._discard(next(iter(self._awaited)))
        self._awaited[command.id] = awaited
        for topic in confirmation.topics:
            self._topics.setdefault(topic, OrderedDict())[command.id] = awaited

    def _discard(self, id: str) -> None:
        awaited = self._awaited.pop(id, None)
        for topic in awaited.confirmation.topics if awaited is not None else ():
            commands = self._topics.get(topic, OrderedDict())
            commands.pop(id, None)
            if not commands:
                self._topics.pop(topic, None)

    def _reject(self, device: str, id: str, code: str, sentence: str, is_repeated: bool = False) -> None:
        """Report that the device does not have a command, unless it may have it from an earlier publication."""
        if is_repeated:
            return
        self._report(device, state_of(id, ReportedOutcome("rejected", code, sentence), self._clock()))


def state_of(id: str, outcome: ReportedOutcome, now_ns: int) -> CommandState:
    """Return an outcome as the hub records it. A result that is too large, or no JSON value, is left out."""
    result = None if result_problem(outcome.result) else outcome.result
    message = "".join(character for character in outcome.message if character.isprintable())[:MAX_MESSAGE]
    return CommandState(id, outcome.state, now_ns, outcome.code, message, result)
