"""One edge node as a host application follows it: its session, the order of its messages, its devices. Pure.

Source: "Sparkplug Host Application Message Ordering" and the sections on sessions in chapter 5 of the Sparkplug 3.0
specification. An edge node numbers its messages; they go by several topics, so that they may arrive out of order. One
that comes too early is kept until those before it are there. When they are not within the reorder timeout the session
is given up: births are asked for, and until they come only metrics that tell their own name are taken. An alias may
mean another metric by then, if what was lost was a birth. What cannot be understood so is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from hub.mqtt.message import Decoded, DevicePresence, Message, Publish, RejectedMessage
from hub.mqtt.sparkplug.device import BD_SEQ, NS_PER_MS, REBIRTH, SparkplugDevice
from hub.mqtt.sparkplug.payload import DataType, SparkplugPayload, encode, metric
from hub.mqtt.topics import SPARKPLUG

Kind = Literal["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]


SEQS = 256
"""Numbers of messages, and of sessions, go from 0 to 255 and begin again."""

MAX_HELD = 64
"""Messages of one edge node that are kept because others are missing: a quarter of the numbers there are. With more the
session is given up before its time."""

MAX_DEVICES = 1024
"""Devices of one edge node; messages of a further one are refused."""

MAX_NAMED = 3
"""Metrics that a refusal names."""


class NodeMessage(NamedTuple):
    """A message of an edge node that was decoded. `device` is empty where it speaks of the node itself."""

    kind: Kind
    device: str
    payload: SparkplugPayload
    message: Message

    @property
    def seq(self) -> int:
        """A program that leaves out fields which are 0 leaves out this one, too."""
        return self.payload.seq or 0


class EdgeNode:
    """An edge node. `counts` says by reason what was left out, late or lost, for all nodes of a host together."""

    def __init__(self, group: str, name: str, counts: Counter[str], reorder_ns: int) -> None:
        self._group = group
        self._name = name
        self._counts = counts
        self._reorder_ns = reorder_ns
        self._self = SparkplugDevice(group, name, "", counts)
        self._devices: dict[str, SparkplugDevice] = {}
        self._in_order = False
        self._next = 0
        self._bd_seq: int | None = None
        self._birth_ms: int | None = None
        self._birth_received_ns = 0
        self._settling = False
        self._held: dict[int, NodeMessage] = {}
        self._applied: dict[int, int] = {}
        self._rebirth = RebirthRequest()

    @property
    def online(self) -> bool:
        """Whether the node was born and did not die."""
        return self._self.online

    @property
    def due_ns(self) -> int | None:
        """When `expire` has something to do; None where nothing is waited for."""
        due = [due_ns] if (due_ns := self._rebirth.due_ns) is not None else []
        due.extend(arrival.message.received_ns + self._reorder_ns for arrival in self._held.values())
        return min(due, default=None)

    def take(self, arrival: NodeMessage) -> list[Decoded]:
        """What a message tells, and what those tell that waited for it."""
        now_ns = arrival.message.received_ns
        if arrival.kind == "NBIRTH":
            found = self._begin(arrival)
        elif arrival.kind == "NDEATH":
            found = self._end(arrival)
        elif not self._in_order:
            self._rebirth.wanted = True
            found = self._hold(arrival)
        elif self._is_of_before(arrival):
            found = self._unordered(arrival)
        elif arrival.seq == self._next and not self._in_doubt():
            found = [*self._follow(arrival), *self._drain()]
        elif self._applied.get(arrival.seq) == _fingerprint(arrival):
            self._counts["duplicate"] += 1
            found = []
        else:
            found = self._hold(arrival)
        return [*found, *self.expire(now_ns)]

    def expire(self, now_ns: int) -> list[Decoded]:
        """What is to be done because time has passed: messages that waited too long, a request for births."""
        found: list[Decoded] = []
        late = [a for a in self._held.values() if a.message.received_ns + self._reorder_ns <= now_ns]
        if late:
            found += self._give_up() if self._in_order else self._release(late)
        if self._rebirth.ask(now_ns):
            found.append(self._request(now_ns))
        return found

    def lose(self) -> list[Decoded]:
        """The broker was lost, and messages with it: nothing is known for certain until the next births."""
        found = [*self._release(list(self._held.values())), *self._absent([self._self, *self._devices.values()])]
        self._in_order = False
        self._rebirth.wanted = True
        return found

    def regain(self) -> None:
        """The broker is there again: what is wanted is asked for at once."""
        self._rebirth.restart()

    def _begin(self, birth: NodeMessage) -> list[Decoded]:
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
        self._rebirth.answered()
        self._settling = True
        for part in self._devices.values():
            part.born = False
        return [*found, *self._bear(self._self, birth), *self._drain()]

    def _end(self, death: NodeMessage) -> list[Decoded]:
        bd_seq = _bd_seq(death.payload)
        if bd_seq is not None and self._bd_seq is not None and 0 < (self._bd_seq - bd_seq) % SEQS < SEQS // 2:
            # The will of a connection that ended before the present one began.
            self._counts["late_death"] += 1
            return []
        found = self._release(list(self._held.values()))
        self._in_order = self._rebirth.wanted = False
        never_seen = self._bd_seq is None and not self._self.online
        if bd_seq is not None:
            self._bd_seq = bd_seq
        if never_seen:
            return [*found, DevicePresence(self._self.id, online=False)]
        return [*found, *self._absent([self._self, *self._devices.values()])]

    def _follow(self, arrival: NodeMessage) -> list[Decoded]:
        """A message in its order."""
        self._applied[arrival.seq] = _fingerprint(arrival)
        self._next = (arrival.seq + 1) % SEQS
        if arrival.kind == "DBIRTH":
            part = self._devices.get(arrival.device)
            if part is None:
                if len(self._devices) >= MAX_DEVICES:
                    sentence = f"{self._group}/{self._name} has more than {MAX_DEVICES} devices; use several edge nodes"
                    return [RejectedMessage(arrival.message, "too_many_devices", sentence)]
                part = self._devices[arrival.device] = SparkplugDevice(
                    self._group, self._name, arrival.device, self._counts
                )
            return self._bear(part, arrival)
        if arrival.kind == "DDEATH":
            part = self._devices.get(arrival.device)
            return self._absent([part]) if part else []
        return [*self._settle(), *self._read(arrival)]

    def _settle(self) -> list[Decoded]:
        """All births of a session come before its first data: a device that had none is no longer there."""
        if not self._settling:
            return []
        self._settling = False
        return self._absent([part for part in self._devices.values() if not part.born])

    def _read(self, arrival: NodeMessage) -> list[Decoded]:
        part = self._part(arrival)
        if part is None or not part.born:
            self._rebirth.wanted = True
            sentence = f"{arrival.message.topic} has data, but no birth of it was seen; a rebirth is asked for"
            return [RejectedMessage(arrival.message, "before_birth", sentence)]
        samples, unknown = part.samples(arrival.payload)
        if not unknown:
            return [*samples]
        self._rebirth.wanted = True
        names = ", ".join(unknown[:MAX_NAMED]) + (" and others" if len(unknown) > MAX_NAMED else "")
        sentence = f"the birth of {part.id} defined no metric {names}; a rebirth is asked for"
        return [*samples, RejectedMessage(arrival.message, "unknown_metric", sentence)]

    def _bear(self, part: SparkplugDevice, birth: NodeMessage) -> list[Decoded]:
        found: list[Decoded] = [part.define(birth.payload)]
        if not part.online:
            found.append(DevicePresence(part.id, online=True))
        part.born = part.online = True
        return [*found, *part.samples(birth.payload)[0]]

    def _absent(self, parts: Iterable[SparkplugDevice]) -> list[Decoded]:
        found: list[Decoded] = []
        for part in parts:
            part.born = False
            if part.online:
                part.online = False
                found.append(DevicePresence(part.id, online=False))
        return found

    def _hold(self, arrival: NodeMessage) -> list[Decoded]:
        found: list[Decoded] = []
        same = self._held.get(arrival.seq)
        if same is not None:
            if _fingerprint(same) == _fingerprint(arrival):
                self._counts["duplicate"] += 1
                return []
            found += self._release([same])
        self._held[arrival.seq] = arrival
        if len(self._held) > MAX_HELD:
            found += self._give_up() if self._in_order else self._release([next(iter(self._held.values()))])
        return found

    def _drain(self) -> list[Decoded]:
        found: list[Decoded] = []
        while not self._in_doubt() and (arrival := self._held.pop(self._next, None)) is not None:
            found += self._follow(arrival)
        return found

    def _in_doubt(self) -> bool:
        """Whether a message came that is behind the others and none of them again: it must be of a session whose birth
        was not seen yet. What follows may be of that session, too, even where it has the number that is waited for."""
        return any((seq - self._next) % SEQS >= SEQS // 2 for seq in self._held)

    def _is_of_before(self, arrival: NodeMessage) -> bool:
        """Whether a message was sent before the births that it comes after. Asked only just after them: an edge node's
        clock may be put back at any time."""
        time_ms = arrival.payload.time_ms
        if time_ms is None or self._birth_ms is None or time_ms >= self._birth_ms:
            return False
        return arrival.message.received_ns - self._birth_received_ns < self._reorder_ns

    def _give_up(self) -> list[Decoded]:
        self._counts["gap"] += 1
        self._in_order = False
        self._rebirth.wanted = True
        return self._release(list(self._held.values()))

    def _release(self, arrivals: Iterable[NodeMessage]) -> list[Decoded]:
        """Messages that are kept no longer."""
        found: list[Decoded] = []
        for arrival in arrivals:
            del self._held[arrival.seq]
            found += self._unordered(arrival)
        return found

    def _unordered(self, arrival: NodeMessage) -> list[Decoded]:
        """A message whose order is not known: where it tells its metrics' names it is taken, else refused."""
        part = self._part(arrival)
        if arrival.kind in ("NDATA", "DDATA") and part is not None and part.knows_by_name(arrival.payload):
            return [*part.samples(arrival.payload)[0]]
        sentence = (
            f"message {arrival.seq} of {self._group}/{self._name} did not come in its order, so that what its metrics "
            "are is not certain; the next births of the edge node bring their values"
        )
        return [RejectedMessage(arrival.message, "out_of_order", sentence)]

    def _part(self, arrival: NodeMessage) -> SparkplugDevice | None:
        return self._devices.get(arrival.device) if arrival.device else self._self

    def _request(self, now_ns: int) -> Publish:
        self._counts["rebirth_request"] += 1
        time_ms = now_ns // NS_PER_MS
        rebirth = metric(DataType.BOOLEAN, True, name=REBIRTH, time_ms=time_ms)
        # Commands have no number, and this metric no alias.
        return Publish(
            f"{SPARKPLUG}/{self._group}/NCMD/{self._name}", encode(SparkplugPayload(time_ms, None, (rebirth,)))
        )


def _bd_seq(payload: SparkplugPayload) -> int | None:
    for told in payload.metrics:
        if told.name == BD_SEQ and isinstance(told.raw, int):
            return told.raw % SEQS
    return None


def _is_after(arrival: NodeMessage, birth_ms: int | None) -> bool:
    """Whether a message that was kept is of the session that this birth began. Births of devices tell their names and
    leave the edge node in the same millisecond; data of that millisecond may be of the session before."""
    time_ms = arrival.payload.time_ms
    if time_ms is None or birth_ms is None:
        return False
    return time_ms > birth_ms or (time_ms == birth_ms and arrival.kind in ("DBIRTH", "DDEATH"))


def _fingerprint(arrival: NodeMessage) -> int:
    return hash((arrival.message.topic, arrival.message.payload))


FIRST_PAUSE_NS = 5_000_000_000
"""Between two requests to one edge node: its births are its largest messages, and a node that is asked by several hosts
answers each of them."""

LONGEST_PAUSE_NS = 300_000_000_000
"""Each request without an answer doubles the pause up to this: some edge nodes know no rebirth, and never answer."""


class RebirthRequest:
    """Whether an edge node's births are wanted, and when it may be asked for them."""

    __slots__ = ("_asked_ns", "_pause_ns", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self._asked_ns: int | None = None
        self._pause_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When to ask; None where nothing is wanted."""
        if not self.wanted:
            return None
        return 0 if self._asked_ns is None else self._asked_ns + self._pause_ns

    def ask(self, now_ns: int) -> bool:
        """Whether to ask now; it counts as done."""
        due_ns = self.due_ns
        if due_ns is None:
            return False
        # A clock that was put back must not silence the hub.
        if now_ns < due_ns and (self._asked_ns is None or now_ns >= self._asked_ns):
            return False
        self._asked_ns = now_ns
        self._pause_ns = min(max(2 * self._pause_ns, FIRST_PAUSE_NS), LONGEST_PAUSE_NS)
        return True

    def restart(self) -> None:
        """Requests of before went to another connection, and are none."""
        self._asked_ns, self._pause_ns = None, 0

    def answered(self) -> None:
        """The births came; the next request keeps its distance from the last all the same."""
        self.wanted = False
        self._pause_ns = min(self._pause_ns, FIRST_PAUSE_NS)
