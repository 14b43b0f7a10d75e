"""Prepared MQTT packets and the load made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import mqtt_frames as mqtt
from bench.mqtt_load import PublishOrder, frames, names, opened
from tests.services.mosquitto import Mosquitto


@given(
    st.lists(st.tuples(st.text("abc/ä", min_size=1, max_size=300), st.binary(max_size=20_000), st.integers(0, 1))),
    st.integers(1, 65_535),
)
def test_messages_are_read_as_they_were_written(messages: list[tuple[str, bytes, int]], packet_id: int) -> None:
    """Packets of any length are decoded one after the other."""
    buffer = b"".join(mqtt.publish(t, p, qos=q, packet_id=packet_id) for t, p, q in messages)
    position = 0
    for topic, payload, qos in messages:
        packet = mqtt.next_packet(buffer, position)
        assert packet is not None
        assert packet.type == mqtt.PUBLISH
        found = mqtt.read_publish(buffer, packet)
        assert (found.topic, found.payload, found.qos, found.id) == (topic, payload, qos, packet_id if qos else 0)
        position = packet.end
    assert position == len(buffer)


@given(st.binary(max_size=300), st.data())
def test_an_incomplete_packet_is_waited_for(payload: bytes, data: st.DataObject) -> None:
    """An incomplete packet is None wherever the stream is cut."""
    whole = mqtt.publish("a/b", payload, qos=1, packet_id=7)
    assert mqtt.next_packet(whole[: data.draw(st.integers(0, len(whole) - 1))], 0) is None


@pytest.mark.parametrize("readings", [1, 40])
def test_the_load_is_one_message_of_each_device_in_turn(readings: int) -> None:
    """All messages have one length, their own times and the requested readings."""
    data = frames(PublishOrder(0, "x", 3, readings, 1, 0), range(4, 6), 1_700_000_000_000_000_000)
    position, found = 0, []
    while (packet := mqtt.next_packet(data, position)) is not None:
        assert packet.end - position == len(data) // 6
        position = packet.end
        found.append(mqtt.read_publish(data, packet))
    assert [message.id for message in found] == [1, 2, 3, 4, 5, 6]
    assert [message.topic[-3:] for message in found] == ["004", "005"] * 3
    for message in found:
        assert [*json.loads(message.payload)] == ["ts", *names(readings)]


@pytest.mark.parametrize("level", [4, 5])
def test_mosquitto_understands_both_versions(mosquitto_program: Path, tmp_path: Path, level: int) -> None:
    """Mosquitto delivers a message of each version to the subscriber at QoS 1, and acknowledges it."""
    with (
        Mosquitto(mosquitto_program, tmp_path / "broker") as mosquitto,
        opened(mosquitto.port, mqtt.connect("listener", level=level)) as listener,
        opened(mosquitto.port, mqtt.connect("publisher")) as publisher,
    ):
        listener.sendall(mqtt.subscribe(3, "a/+", 1, level=level))
        _next(listener.recv(1_000), mqtt.SUBACK)
        publisher.sendall(mqtt.publish("a/b", b"21.5", qos=1, packet_id=9))
        acknowledged = publisher.recv(1_000)
        assert mqtt.packet_id_of(acknowledged, _next(acknowledged, mqtt.PUBACK)) == 9
        came = listener.recv(1_000)
        message = mqtt.read_publish(came, _next(came, mqtt.PUBLISH), level=level)
        assert (message.topic, message.payload, message.qos) == ("a/b", b"21.5", 1)
        listener.sendall(mqtt.puback(message.id))


def _next(buffer: bytes, type: int) -> mqtt.Packet:
    packet = mqtt.next_packet(buffer, 0)
    assert packet is not None
    assert packet.type == type
    return packet
