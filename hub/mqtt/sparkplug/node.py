"""Edge node of a host application: its session, the order of its messages, its devices, and rebirth requests. Pure.

Source: "Sparkplug Host Application Message Ordering" and the sections on sessions in chapter 5 of the Sparkplug 3.0
specification. An edge node numbers its messages. They have several topics and may arrive out of order. A message that
arrives early is held until the ones before it have arrived. If they do not arrive within the reorder timeout, the
session is abandoned: births are requested, and until they arrive only metrics with their name are accepted. If the lost
message was a birth, an alias may mean another metric. Messages that cannot be interpreted are rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from hub.mqtt.decoders.fields import PresetFields
from hub.mqtt.message import (
    AvailabilityChange,
    CommandDelivery,
    Decoded,
    DeviceCommands,
    Message,
    Publish,
    RejectedMessage,
    Undeliverable,
)
from hub.mqtt.sparkplug.command import CommandTopics, MetricCommand, commands_of, delivery_of
from hub.mqtt.sparkplug.device import BD_SEQ, NS_PER_MS, REBIRTH, SparkplugDevice
from hub.mqtt.sparkplug.payload import DataType, SparkplugPayload, encode, metric
from hub.mqtt.topics import SPARKPLUG
from wire.device import Command

Kind = Literal["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]

SEQS = 256
"""Sequence numbers of messages and sessions run from 0 to 255 and restart."""

MAX_HELD = 64
"""Messages of one edge node that are held because others are missing: a quarter of the sequence numbers. With more the
session is abandoned before the timeout."""

MAX_DEVICES = 1024
"""Devices of one edge node. Messages of further devices are rejected."""

MAX_NAMED = 3
"""Metrics that a rejection names."""


class NodeMessage(NamedTuple):
    """Decoded message of an edge node. `device` is empty for a message about the node itself."""

    kind: Kind
    device: str
    payload: SparkplugPayload
    message: Message

    @property
    def seq(self) -> int:
        """Sequence number. Programs that omit fields with the value 0 omit this one, too."""
        return self.payload.seq or 0


class EdgeNode:
    """One edge node. `counts` counts what was excluded, late or lost, by reason, over all nodes of a host.

    `has_commands`: its births declare commands.
    """

    def __init__(
        self,
        group: str,
        name: str,
        fields: PresetFields,
        counts: Counter[str],
        reorder_ns: int,
        *,
        has_commands: bool = False,
    ) -> None:
        self._group = group
        self._name = name
        self._fields = fields
        self._counts = counts
        self._reorder_ns = reorder_ns
        self._self = SparkplugDevice(group, name, "", fields, counts)
        self._devices: dict[str, SparkplugDevice] = {}
        self._in_order = False
        self._next = 0
        self._bd_seq: int | None = None
        self._birth_ms: int | None = None
        self._birth_received_ns = 0
        self._awaits_first_data = False
        self._held: dict[int, NodeMessage] = {}
        self._applied: dict[int, int] = {}
        self._rebirth = RebirthRequest()
        self._has_commands = has_commands
        # By the hub's id of a device: its own name, and its commands by name.
        self._commands: dict[str, tuple[str, dict[str, MetricCommand]]] = {}

    @property
    def online(self) -> bool:
        """True after the birth of the node and before its death."""
        return self._self.online

    @property
    def due_ns(self) -> int | None:
        """Time of the next `expire`, or None."""
        due = [self._rebirth.due_ns, *(held.message.received_ns + self._reorder_ns for held in self._held.values())]
        return min((due_ns for due_ns in due if due_ns is not None), default=None)

    def receive(self, arrival: NodeMessage) -> list[Decoded]:
        """Return the content of a message and of the messages that waited for it."""
        now_ns = arrival.message.received_ns
        if arrival.kind == "NBIRTH":
            found = self._begin_session(arrival)
        elif arrival.kind == "NDEATH":
            found = self._end_session(arrival)
        elif not self._in_order:
            self._rebirth.wanted = True
            found = self._hold(arrival)
        elif self._is_from_before_birth(arrival):
            found = self._apply_unordered(arrival)
        elif arrival.seq == self._next and not self._may_have_missed_birth():
            found = [*self._apply(arrival), *self._apply_held()]
        elif self._applied.get(arrival.seq) == _fingerprint(arrival):
            self._counts["duplicate"] += 1
            found = []
        else:
            found = self._hold(arrival)
        return [*found, *self.expire(now_ns)]

    def expire(self, now_ns: int) -> list[Decoded]:
        """Return what is due because of the time: messages that waited too long, and a request for births."""
        late = [held for held in self._held.values() if held.message.received_ns + self._reorder_ns <= now_ns]
        found = self._abandon_session() if late and self._in_order else self._release(late)
        if self._rebirth.is_due(now_ns):
            found.append(self._request(now_ns))
        return found

    def delivery(self, device: str, command: Command, now_ns: int) -> CommandDelivery | None:
        """Return the message for a command, None if the node has no such device or command. Raises Undeliverable."""
        name, commands = self._commands.get(device, ("", {}))
        wanted = commands.get(command.name)
        if wanted is None:
            return None
        known = self._devices.get(name) if name else self._self
        if known is None or not known.born or not self._in_order:
            # An alias of an earlier session may mean another metric.
            sentence = "its birth is awaited: until then the hub does not know what its metrics are called"
            raise Undeliverable("before_birth", sentence)
        topics = CommandTopics.of(self._group, self._name, name)
        return delivery_of(wanted, command, device=device, topics=topics, now_ns=now_ns)

    def broker_disconnected(self) -> list[Decoded]:
        """Mark everything as offline. Messages may be lost, so the state is unknown until the next births."""
        found = [*self._release(list(self._held.values())), *self._set_offline([self._self, *self._devices.values()])]
        self._in_order = False
        self._rebirth.wanted = True
        return found

    def broker_connected(self) -> None:
        """Allow a rebirth request at once."""
        self._rebirth.restart()

    def _begin_session(self, birth: NodeMessage) -> list[Decoded]:
        bd_seq, time_ms, received_ns = _bd_seq(birth.payload), birth.payload.time_ms, birth.message.received_ns
        if (
            self._in_order
            and bd_seq == self._bd_seq
            and time_ms is not None
            and self._birth_ms is not None
            and time_ms <= self._birth_ms
            and received_ns - self._birth_received_ns < self._reorder_ns
        ):
            self._counts["duplicate"] += 1
            return []
        earlier = [held for held in self._held.values() if not _is_after(held, time_ms)]
        found = self._release(earlier)
        self._in_order, self._next = True, (birth.seq + 1) % SEQS
        self._bd_seq, self._birth_ms, self._birth_received_ns = bd_seq, time_ms, received_ns
        self._rebirth.births_received()
        self._awaits_first_data = True
        for device in self._devices.values():
            device.born = False
        return [*found, *self._apply_birth(self._self, birth), *self._apply_held()]

    def _end_session(self, death: NodeMessage) -> list[Decoded]:
        bd_seq = _bd_seq(death.payload)
        if bd_seq is not None and self._bd_seq is not None and 0 < (self._bd_seq - bd_seq) % SEQS < SEQS // 2:
            # The will of a connection that ended before the current one began.
            self._counts["late_death"] += 1
            return []
        found = self._release(list(self._held.values()))
        self._in_order = self._rebirth.wanted = False
        never_seen = self._bd_seq is None and not self._self.online
        if bd_seq is not None:
            self._bd_seq = bd_seq
        if never_seen:
            return [*found, AvailabilityChange(self._self.id, online=False)]
        return [*found, *self._set_offline([self._self, *self._devices.values()])]

    def _apply(self, arrival: NodeMessage) -> list[Decoded]:
        """Return the content of a message in its order."""
        self._applied[arrival.seq] = _fingerprint(arrival)
        self._next = (arrival.seq + 1) % SEQS
        device = self._devices.get(arrival.device)
        if arrival.kind == "DBIRTH":
            if device is None:
                if len(self._devices) >= MAX_DEVICES:
                    sentence = f"{self._group}/{self._name} has more than {MAX_DEVICES} devices; use several edge nodes"
                    return [RejectedMessage(arrival.message, "too_many_devices", sentence)]
                device = SparkplugDevice(self._group, self._name, arrival.device, self._fields, self._counts)
                self._devices[arrival.device] = device
            return self._apply_birth(device, arrival)
        if arrival.kind == "DDEATH":
            return self._set_offline([device]) if device else []
        found: list[Decoded] = []
        if self._awaits_first_data:
            # All births of a session come before its first data: devices without a birth are offline.
            self._awaits_first_data = False
            found = self._set_offline([device for device in self._devices.values() if not device.born])
        return [*found, *self._apply_data(arrival)]

    def _apply_data(self, arrival: NodeMessage) -> list[Decoded]:
        device = self._device(arrival)
        if device is None or not device.born:
            self._rebirth.wanted = True
            sentence = f"{arrival.message.topic} has data, but its birth was not received; a rebirth is requested"
            return [RejectedMessage(arrival.message, "before_birth", sentence)]
        readings, unknown = device.readings(arrival.payload, arrival.message)
        if not unknown:
            return [*readings]
        self._rebirth.wanted = True
        names = ", ".join(unknown[:MAX_NAMED]) + (" and others" if len(unknown) > MAX_NAMED else "")
        sentence = f"the birth of {device.id} did not define the metric {names}; a rebirth is requested"
        return [*readings, RejectedMessage(arrival.message, "unknown_metric", sentence)]

    def _apply_birth(self, device: SparkplugDevice, birth: NodeMessage) -> list[Decoded]:
        found: list[Decoded] = [device.define(birth.payload)]
        if self._has_commands:
            commands = commands_of(birth.payload.metrics, device.definition_of)
            self._commands[device.id] = birth.device, commands
            declared = [command.declaration for command in commands.values()]
            found.append(DeviceCommands(device.id, declared, is_complete=True))
        if not device.online:
            found.append(AvailabilityChange(device.id, online=True))
        device.born = device.online = True
        return [*found, *device.readings(birth.payload, birth.message)[0]]

    def _set_offline(self, devices: Iterable[SparkplugDevice]) -> list[Decoded]:
        found: list[Decoded] = []
        for device in devices:
            device.born = False
            if device.online:
                device.online = False
                found.append(AvailabilityChange(device.id, online=False))
        return found

    def _hold(self, arrival: NodeMessage) -> list[Decoded]:
        same = self._held.get(arrival.seq)
        if same is not None and _fingerprint(same) == _fingerprint(arrival):
            self._counts["duplicate"] += 1
            return []
        found = self._release([same] if same is not None else [])
        self._held[arrival.seq] = arrival
        if len(self._held) > MAX_HELD:
            found += self._abandon_session() if self._in_order else self._release([next(iter(self._held.values()))])
        return found

    def _apply_held(self) -> list[Decoded]:
        found: list[Decoded] = []
        while not self._may_have_missed_birth() and (arrival := self._held.pop(self._next, None)) is not None:
            found += self._apply(arrival)
        return found

    def _may_have_missed_birth(self) -> bool:
        """Return whether a held message has an earlier number and is not a repetition.

        It must belong to a session whose birth is still missing. The following messages may belong to that session,
        too, even the one with the expected number.
        """
        return any((seq - self._next) % SEQS >= SEQS // 2 for seq in self._held)

    def _is_from_before_birth(self, arrival: NodeMessage) -> bool:
        """Return whether a message was sent before the birth that arrived before it.

        Only checked shortly after a birth: the clock of an edge node may be set back at any time.
        """
        time_ms = arrival.payload.time_ms
        if time_ms is None or self._birth_ms is None or time_ms >= self._birth_ms:
            return False
        return arrival.message.received_ns - self._birth_received_ns < self._reorder_ns

    def _abandon_session(self) -> list[Decoded]:
        self._counts["gap"] += 1
        self._in_order = False
        self._rebirth.wanted = True
        return self._release(list(self._held.values()))

    def _release(self, arrivals: Iterable[NodeMessage]) -> list[Decoded]:
        """Apply held messages without waiting longer."""
        found: list[Decoded] = []
        for arrival in arrivals:
            del self._held[arrival.seq]
            found += self._apply_unordered(arrival)
        return found

    def _apply_unordered(self, arrival: NodeMessage) -> list[Decoded]:
        """Return the content of a message out of order if its metrics have names; otherwise reject it."""
        device = self._device(arrival)
        if arrival.kind in ("NDATA", "DDATA") and device is not None and device.knows_by_name(arrival.payload):
            return [*device.readings(arrival.payload, arrival.message)[0]]
        sentence = (
            f"message {arrival.seq} of {self._group}/{self._name} arrived out of order, so its metrics cannot be "
            "identified; the next births of the edge node contain their values"
        )
        return [RejectedMessage(arrival.message, "out_of_order", sentence)]

    def _device(self, arrival: NodeMessage) -> SparkplugDevice | None:
        return self._devices.get(arrival.device) if arrival.device else self._self

    def _request(self, now_ns: int) -> Publish:
        self._counts["rebirth_request"] += 1
        time_ms = now_ns // NS_PER_MS
        # Commands have no sequence number, and this metric has no alias.
        payload = SparkplugPayload(time_ms, None, (metric(DataType.BOOLEAN, True, name=REBIRTH, time_ms=time_ms),))
        return Publish(f"{SPARKPLUG}/{self._group}/NCMD/{self._name}", encode(payload))


def _bd_seq(payload: SparkplugPayload) -> int | None:
    found = (metric.raw % SEQS for metric in payload.metrics if metric.name == BD_SEQ and isinstance(metric.raw, int))
    return next(found, None)


def _is_after(arrival: NodeMessage, birth_ms: int | None) -> bool:
    """Return whether a held message belongs to the session that this birth began.

    Births of devices may have the same millisecond as the birth of the node. Data of that millisecond may belong to the
    session before.
    """
    time_ms = arrival.payload.time_ms
    if time_ms is None or birth_ms is None:
        return False
    return time_ms > birth_ms or (time_ms == birth_ms and arrival.kind in ("DBIRTH", "DDEATH"))


def _fingerprint(arrival: NodeMessage) -> int:
    return hash((arrival.message.topic, arrival.message.payload))


FIRST_PAUSE_NS = 5_000_000_000
"""Least time between two requests to one edge node. Its births are its largest messages, and it answers the request of
each host."""

LONGEST_PAUSE_NS = 300_000_000_000
"""Each unanswered request doubles the pause up to this. Some edge nodes do not support rebirths and never answer."""


class RebirthRequest:
    """Request for the births of an edge node: whether it is wanted, and when it may be sent."""

    __slots__ = ("_asked_ns", "_pause_ns", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self._asked_ns: int | None = None
        self._pause_ns = 0

    @property
    def due_ns(self) -> int | None:
        """Time of the next request, or None."""
        if not self.wanted:
            return None
        return 0 if self._asked_ns is None else self._asked_ns + self._pause_ns

    def is_due(self, now_ns: int) -> bool:
        """Return whether to send a request now, and count it as sent."""
        due_ns = self.due_ns
        if due_ns is None:
            return False
        # A clock that is set back must not stop the requests.
        if now_ns < due_ns and (self._asked_ns is None or now_ns >= self._asked_ns):
            return False
        self._asked_ns = now_ns
        self._pause_ns = min(max(2 * self._pause_ns, FIRST_PAUSE_NS), LONGEST_PAUSE_NS)
        return True

    def restart(self) -> None:
        """Discard the requests of an earlier connection."""
        self._asked_ns, self._pause_ns = None, 0

    def births_received(self) -> None:
        """End the request. The next one still keeps its distance from the last."""
        self.wanted = False
        self._pause_ns = min(self._pause_ns, FIRST_PAUSE_NS)
