"""The broker that tests of MQTT use."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.services.mosquitto import Mosquitto, make_certificates


def test_retained_messages_survive_a_stop(mosquitto_program: Path, tmp_path: Path) -> None:
    """After a stop it listens on the same port and still has its retained messages."""
    with Mosquitto(mosquitto_program, tmp_path) as broker:
        _publish(broker.port)
        with broker.down():
            pass
        assert _retained(broker.port) == b"still here"


def test_a_broker_that_cannot_start_says_why(mosquitto_program: Path, tmp_path: Path) -> None:
    """The error has the broker's output."""
    broker = Mosquitto(mosquitto_program, tmp_path, settings=["no_such_setting true"])
    with pytest.raises(RuntimeError, match="no_such_setting"):
        broker.start()


def test_tls_requires_a_certificate(mosquitto_program: Path, tmp_path: Path) -> None:
    """A client with a certificate of the same authority is accepted, one without is rejected."""
    made = make_certificates(tmp_path / "certificates")
    with Mosquitto(mosquitto_program, tmp_path, certificates=made) as broker:
        assert broker.url.startswith("mqtts://")
        context = ssl.create_default_context(cafile=str(made.authority))
        context.load_cert_chain(made.client_certificate, made.client_key)
        _publish(broker.port, context)


def _publish(port: int, context: ssl.SSLContext | None = None) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if context is not None:
        client.tls_set_context(context)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish("kept", b"still here", qos=1, retain=True).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def _retained(port: int) -> bytes:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    found: list[bytes] = []
    came = threading.Event()

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        found.append(bytes(message.payload))
        came.set()

    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe("kept", options=SubscribeOptions(qos=1))
    client.loop_start()
    assert came.wait(10)
    client.disconnect()
    client.loop_stop()
    return found[0]
