"""The hub as a Sparkplug B 3.0 host application: a decoder that knows the edge nodes it hears of. Pure.

Source: chapters 4 (topics) and 5 (operational behaviour) of the Sparkplug 3.0 specification. What edge nodes publish is
QoS 0 by that specification: what was lost on the way is noticed by its missing number, and made good by a rebirth.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, get_args

from hub.mqtt.decoders.formats import parse_json
from hub.mqtt.message import Decoded, Message, Publish, Undecodable
from hub.mqtt.sparkplug.device import NS_PER_MS
from hub.mqtt.sparkplug.node import SEQS, EdgeNode, Kind, NodeMessage
from hub.mqtt.sparkplug.payload import decode
from hub.mqtt.topics import SPARKPLUG

REORDER_MS = 2_000
"""How long a message may wait for those before it; the specification calls a couple of seconds typical."""

MAX_NODES = 4_096
"""Edge nodes of one broker that a host follows. One more takes the place of one that is dead, else it is refused."""

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}


class NodeTopic(NamedTuple):
    """Where a message comes from. `device` is empty where it speaks of the edge node itself."""

    group: str
    kind: Kind
    node: str
    device: str

    @classmethod
    def parse(cls, topic: str) -> NodeTopic | None:
        """The address in a topic; None where that is no topic of an edge node's messages."""
        namespace, *names = topic.split("/")
        if namespace != SPARKPLUG or len(names) not in (3, 4) or not all(names):
            return None
        kind = _KINDS.get(names[1])
        if kind is None or kind.startswith("D") != (len(names) == 4):
            return None
        return cls(names[0], kind, names[2], names[3] if len(names) == 4 else "")


class HostApplication:
    """A host application: the decoder of one broker's Sparkplug messages.

    With a `host_id` it tells edge nodes whether it is there, for those that wait for it: `will` before it connects,
    `connected` when it is subscribed. Without one it only listens and asks for rebirths. `expire` is for when nothing
    arrives; `due_ns` says when. `groups` are those it listens to, all without any. Raises ValueError where `host_id` is
    no level of a topic.
    """

    def __init__(self, host_id: str = "", groups: Sequence[str] = (), *, reorder_ms: int = REORDER_MS) -> None:
        if any(character in host_id for character in "/+#\0"):
            raise ValueError(f"{host_id!r} is no Sparkplug host id: it is one level of a topic, without / + #")
        self.state_topic = f"{SPARKPLUG}/STATE/{host_id}" if host_id else ""
        self._groups = frozenset(groups)
        self.counts: Counter[str] = Counter()
        self._reorder_ns = reorder_ms * NS_PER_MS
        self._nodes: dict[tuple[str, str], EdgeNode] = {}
        self._connected_ms = 0
        self._connected = True
        self._due_ns: int | None = None

    @property
    def filters(self) -> Sequence[str]:
        """All messages of edge nodes and devices of its groups, no commands, and the host's own state."""
        found = [
            f"{SPARKPLUG}/{group}/{kind}/+" + ("/+" if kind.startswith("D") else "")
            for group in sorted(self._groups) or ["+"]
            for kind in _KINDS
        ]
        return [*found, *([self.state_topic] if self.state_topic else [])]

    def takes(self, topic: str) -> bool:
        """Whether a topic is one of an edge node, or the host's own state."""
        address = NodeTopic.parse(topic)
        if address is None:
            return topic == self.state_topic != ""
        return not self._groups or address.group in self._groups

    def wants_retained(self, topic: str) -> bool:
        """Nothing of edge nodes is retained by rights; the host's own state is."""
        return topic == self.state_topic != ""

    @property
    def due_ns(self) -> int | None:
        """When `expire` may have something to do, in the time of `received_ns`; None where nothing is waited for."""
        return self._due_ns

    def decode(self, message: Message) -> list[Decoded]:
        """What a message tells, and what those tell that waited for it. Raises Undecodable."""
        if message.topic == self.state_topic:
            return self._own_state(message)
        address = NodeTopic.parse(message.topic)
        if address is None:
            return []
        payload = decode(message.payload)
        if payload.seq is not None and payload.seq >= SEQS:
            raise Undecodable("bad_seq", f"a sequence number is 0 to {SEQS - 1}, this message has {payload.seq}")
        node = self._node(address)
        found = node.take(NodeMessage(address.kind, address.device, payload, message))
        self._note(node.due_ns)
        return [*found, *self.expire(message.received_ns)]

    def expire(self, now_ns: int) -> list[Decoded]:
        """What is to be done because time has passed, though nothing arrived."""
        if self._due_ns is None or now_ns < self._due_ns or not self._connected:
            return []
        self._due_ns = None
        found: list[Decoded] = []
        for node in self._nodes.values():
            found += node.expire(now_ns)
            self._note(node.due_ns)
        return found

    def will(self, now_ns: int) -> Publish | None:
        """What the broker is to say when the connection that is now being made is lost, and what the host says itself
        before it ends; None without a host id."""
        self._connected_ms = now_ns // NS_PER_MS
        return self._state(online=False)

    def connected(self, now_ns: int) -> list[Decoded]:
        """The host is subscribed: it says that it is there, and asks the nodes it knows for their births."""
        state = self._state(online=True)
        if not self._connected:
            self._connected = True
            for node in self._nodes.values():
                node.regain()
                self._note(node.due_ns)
        return [*([state] if state else []), *self.expire(now_ns)]

    def disconnected(self, now_ns: int) -> list[Decoded]:
        """The connection is lost: nobody is known to be there until the next births, and nobody can be asked."""
        self._connected = False
        found: list[Decoded] = []
        for node in self._nodes.values():
            if node.online:
                found += node.lose()
                self._note(node.due_ns)
        return found

    def _own_state(self, message: Message) -> list[Decoded]:
        try:
            told = parse_json(message.payload)
        except Undecodable:
            told = None
        online = told.get("online") if isinstance(told, dict) else None
        state = self._state(online=True)
        # An earlier connection's will may come after the present connection's birth.
        return [state] if online is not True and state else []

    def _state(self, *, online: bool) -> Publish | None:
        if not self.state_topic:
            return None
        # The birth has the time of the will, so that edge nodes can tell which of two they were told last.
        payload = json.dumps({"online": online, "timestamp": self._connected_ms}, separators=(",", ":"))
        return Publish(self.state_topic, payload.encode(), qos=1, retain=True)

    def _node(self, address: NodeTopic) -> EdgeNode:
        key = (address.group, address.node)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                dead = next((key for key, node in self._nodes.items() if not node.online), None)
                if dead is None:
                    sentence = f"this hub follows at most {MAX_NODES} edge nodes of a broker; subscribe to fewer groups"
                    raise Undecodable("too_many_nodes", sentence)
                del self._nodes[dead]
            node = self._nodes[key] = EdgeNode(address.group, address.node, self.counts, self._reorder_ns)
        return node

    def _note(self, due_ns: int | None) -> None:
        if due_ns is not None:
            self._due_ns = due_ns if self._due_ns is None else min(self._due_ns, due_ns)
