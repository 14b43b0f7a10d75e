"""Sparkplug B 3.0 host application: the decoder that follows the edge nodes of one broker. Pure.

Source: chapters 4 (topics) and 5 (operational behaviour) of the Sparkplug 3.0 specification. Edge nodes publish at
QoS 0. A lost message is detected by its missing sequence number, and a rebirth restores the state.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

import msgspec

from formats.record import Note
from hub.mqtt.decoders.fields import DEFAULT_CONTEXT, DecoderContext, PresetFields, parse_json
from hub.mqtt.message import CommandDelivery, Decoded, Decoder, DeviceCommands, Message, Publish, Undecodable
from hub.mqtt.sparkplug.device import NS_PER_MS
from hub.mqtt.sparkplug.node import SEQS, EdgeNode, Kind, NodeMessage
from hub.mqtt.sparkplug.payload import decode
from hub.mqtt.topics import SPARKPLUG
from wire.device import Command

REORDER_MS = 2_000
"""Longest wait of a message for the ones before it. The specification calls a few seconds typical."""

MAX_NODES = 4_096
"""Edge nodes that a host application follows. A further one replaces a dead one, or else it is rejected."""

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}


class NodeTopic(NamedTuple):
    """Parsed topic of a message. `device` is empty for a message about the edge node itself."""

    group: str
    kind: Kind
    node: str
    device: str

    @classmethod
    def parse(cls, topic: str) -> NodeTopic | None:
        """Parse a topic. Return None for other topics than those of edge nodes."""
        namespace, *names = topic.split("/")
        if namespace != SPARKPLUG or len(names) not in (3, 4) or not all(names):
            return None
        kind = _KINDS.get(names[1])
        if kind is None or kind.startswith("D") != (len(names) == 4):
            return None
        return cls(names[0], kind, names[2], names[3] if len(names) == 4 else "")


class HostApplication(Decoder):
    """Decoder of one broker's Sparkplug messages.

    With a `host_id` it announces its state to edge nodes that wait for it: `will` before it connects, `connected` after
    it has subscribed. Without one it only listens and requests rebirths. Call `expire` at `due_ns` if nothing arrives.
    Without `groups` it listens to all groups. `clock` gives commands their time. Raises ValueError if `host_id` is not
    one level of a topic.
    """

    is_repeatable = False
    """A message depends on its birth and on its place in the sequence."""

    def __init__(
        self,
        host_id: str = "",
        groups: Sequence[str] = (),
        *,
        reorder_ms: int = REORDER_MS,
        context: DecoderContext = DEFAULT_CONTEXT,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        if any(character in host_id for character in "/+#\0"):
            raise ValueError(f"{host_id!r} is not a valid Sparkplug host id: it must not contain '/', '+' or '#'")
        self.state_topic = f"{SPARKPLUG}/STATE/{host_id}" if host_id else ""
        self._groups = frozenset(groups)
        # Messages of edge nodes and devices in its groups, without commands, and its own state.
        self.filters = [
            f"{SPARKPLUG}/{group}/{kind}/+" + ("/+" if kind.startswith("D") else "")
            for group in sorted(self._groups) or ["+"]
            for kind in _KINDS
        ]
        if host_id:
            self.filters.append(self.state_topic)
        self.counts: Counter[str] = Counter()
        self._fields = PresetFields(context)
        self._reorder_ns = reorder_ms * NS_PER_MS
        self._has_commands = bool(context.commands_from)
        self._clock = clock
        # The edge node of each device of the hub that takes commands.
        self._node_of: dict[str, EdgeNode] = {}
        self._nodes: dict[tuple[str, str], EdgeNode] = {}
        self._connected_ms = 0
        self._connected = True
        self.due_ns: int | None = None
        """Time of the next `expire` in the clock of `received_ns`, or None."""

    def takes(self, topic: str) -> bool:
        """Return whether the topic belongs to an edge node or is the host's own state."""
        parsed = NodeTopic.parse(topic)
        if parsed is None:
            return topic == self.state_topic != ""
        return not self._groups or parsed.group in self._groups

    def wants_retained(self, topic: str) -> bool:
        """Return whether the topic is the host's own state. Messages of edge nodes must not be retained."""
        return topic == self.state_topic != ""

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return the content of a message and of the messages that waited for it. Raises Undecodable."""
        if message.topic == self.state_topic:
            return self._own_state(message)
        topic = NodeTopic.parse(message.topic)
        if topic is None:
            return []
        payload = decode(message.payload)
        if payload.seq is not None and payload.seq >= SEQS:
            raise Undecodable("bad_seq", f"the sequence number must be 0 to {SEQS - 1}, not {payload.seq}")
        node = self._node(topic)
        found = node.receive(NodeMessage(topic.kind, topic.device, payload, message))
        self._update_due(node.due_ns)
        if self._has_commands:
            self._node_of.update((item.device, node) for item in found if isinstance(item, DeviceCommands))
        return [*found, *self.expire(message.received_ns)]

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message for a command, None if the device has no such command. Raises Undeliverable."""
        node = self._node_of.get(device)
        return None if node is None else node.delivery(device, command, self._clock())

    def expire(self, now_ns: int) -> list[Decoded]:
        """Return what is due because of the time, such as messages that waited too long and rebirth requests."""
        if self.due_ns is None or now_ns < self.due_ns or not self._connected:
            return []
        self.due_ns = None
        found: list[Decoded] = []
        for node in self._nodes.values():
            found += node.expire(now_ns)
            self._update_due(node.due_ns)
        return found

    def will(self, now_ns: int) -> Publish | None:
        """Return the death certificate of the connection that is being made; None without a host id.

        The broker publishes it when the connection is lost, the host itself before an orderly end.
        """
        self._connected_ms = now_ns // NS_PER_MS
        return self._state(online=False)

    def connected(self, now_ns: int) -> list[Decoded]:
        """Announce the host and request births from the known edge nodes. Call it after the subscriptions."""
        state = self._state(online=True)
        if not self._connected:
            self._connected = True
            for node in self._nodes.values():
                node.broker_connected()
                self._update_due(node.due_ns)
        return [*([state] if state else []), *self.expire(now_ns)]

    def disconnected(self, now_ns: int) -> list[Decoded]:
        """Mark all edge nodes as offline until their next births. No rebirth can be requested meanwhile."""
        self._connected = False
        found: list[Decoded] = []
        for node in self._nodes.values():
            if node.online:
                found += node.broker_disconnected()
                self._update_due(node.due_ns)
        return found

    def _own_state(self, message: Message) -> list[Decoded]:
        try:
            content = parse_json(message.payload)
        except Undecodable:
            content = None
        online = content.get("online") if isinstance(content, dict) else None
        state = self._state(online=True)
        # The will of an earlier connection may arrive after the birth of the current one.
        return [state] if online is not True and state else []

    def _state(self, *, online: bool) -> Publish | None:
        if not self.state_topic:
            return None
        # The birth has the time of the will, so that edge nodes can order the two.
        payload = msgspec.json.encode({"online": online, "timestamp": self._connected_ms})
        return Publish(self.state_topic, payload, qos=1, retain=True)

    def _node(self, topic: NodeTopic) -> EdgeNode:
        key = (topic.group, topic.node)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                dead = next((key for key, node in self._nodes.items() if not node.online), None)
                if dead is None:
                    sentence = f"the hub follows at most {MAX_NODES} edge nodes of a broker; subscribe to fewer groups"
                    raise Undecodable("too_many_nodes", sentence)
                gone = self._nodes.pop(dead)
                self._node_of = {device: node for device, node in self._node_of.items() if node is not gone}
            node = self._nodes[key] = EdgeNode(
                topic.group, topic.node, self._fields, self.counts, self._reorder_ns, has_commands=self._has_commands
            )
        return node

    def _update_due(self, due_ns: int | None) -> None:
        if due_ns is not None:
            self.due_ns = due_ns if self.due_ns is None else min(self.due_ns, due_ns)
