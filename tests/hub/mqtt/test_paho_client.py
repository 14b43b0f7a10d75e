"""The private parts of paho that the hub overrides: each exists and has the form that the overrides expect."""

from __future__ import annotations

import inspect
import socket
import time
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hub.mqtt.message import Publish
from hub.mqtt.paho_client import (
    BufferedClient,
    BufferedSocket,
    EncodedProperties,
    encode_pairs,
    encode_response,
    packet_size,
)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_create_socket", ["self"]),
        ("_ssl_wrap_socket", ["self", "tcp_sock"]),
        ("_handle_pubackcomp", ["self", "cmd"]),
        ("_do_on_publish", ["self", "mid", "reason_code", "properties"]),
        ("_packet_read", ["self"]),
        ("_loop_rc_handle", ["self", "rc"]),
    ],
)
def test_paho_has_the_methods_that_are_overridden_or_called(method: str, parameters: list[str]) -> None:
    """A new version of paho that changes one of them fails here and not in production."""
    assert list(inspect.signature(getattr(paho.Client, method)).parameters) == parameters


def client() -> Any:
    return BufferedClient(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, clock=lambda: 7)


def test_paho_calls_the_overridden_socket_factory() -> None:
    """`reconnect` gets its socket from `_create_socket` and keeps the buffered one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = client()
        connecting.connect_async("127.0.0.1", server.getsockname()[1])
        connecting.reconnect()
        assert isinstance(connecting.buffered, BufferedSocket)
        assert connecting.socket() is connecting.buffered
        connecting.buffered.close()


def test_paho_keeps_unacknowledged_messages_where_the_override_looks() -> None:
    """The private fields that the overrides use exist; an unknown acknowledgement is ignored."""
    receiving = client()
    receiving._in_packet["packet"] = bytearray((0, 7))
    assert receiving._out_messages == {}
    with receiving._out_message_mutex:
        assert receiving._ssl_context is None
        assert receiving._connect_timeout > 0
    assert receiving._in_packet["command"] == 0
    assert receiving._last_msg_out <= time.monotonic()
    assert receiving._last_bytes_received <= time.monotonic()
    assert receiving._handle_pubackcomp("PUBACK") == MQTTErrorCode.MQTT_ERR_SUCCESS


def test_encoded_properties_equal_those_of_paho() -> None:
    """Byte for byte, with the length in front."""
    expected = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    pairs = [("hub-device", "pump é"), ("hub-seq", "7" * 200)]
    expected.ResponseTopic = "answers/é"
    expected.CorrelationData = b"\0\xff"
    expected.UserProperty = pairs
    own = EncodedProperties(encode_response("answers/é", b"\0\xff") + encode_pairs(pairs))
    assert own.pack() == expected.pack()  # type: ignore[no-untyped-call]
    assert encode_response() == b""


@pytest.mark.parametrize(("qos", "mqtt5", "size"), [(0, False, 2 + 3 + 4), (1, False, 2 + 3 + 2 + 4), (1, True, 12)])
def test_the_size_of_a_packet_counts_every_part(qos: int, mqtt5: bool, size: int) -> None:
    """Header, topic with its length, message id at QoS 1, properties in MQTT 5, payload."""
    assert packet_size(Publish("a", b"1234", qos), None, mqtt5=mqtt5) == size
