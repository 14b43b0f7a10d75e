"""Configuration deploy/mosquitto.conf in a real broker."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.first_start import MQTT_USER, make_secrets
from tests.deploy.compose import ROOT

ACCEPTED, NOT_AUTHORISED = 0, 5
"""Return codes of CONNACK (MQTT 3.1.1, 3.2.2.3)."""


class Broker(NamedTuple):
    """A running broker: the internal port, the published port and the password made for it."""

    inner_port: int
    outer_port: int
    password: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def broker(mosquitto_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run Mosquitto with the file of this tree, changed only in its paths and ports."""
    folder = tmp_path_factory.mktemp("mosquitto")
    make_secrets(folder)
    inner, outer = free_port(), free_port()
    text = (ROOT / "deploy" / "mosquitto.conf").read_text()
    for written, here in (
        ("listener 1883\n", f"listener {inner} 127.0.0.1\n"),
        ("listener 1884\n", f"listener {outer} 127.0.0.1\n"),
        ("/run/secrets/", f"{folder}/"),
        ("/mosquitto/data/", f"{folder}/"),
        # A test reads the broker's output until it runs; later output is not read.
        ("log_dest stdout", "log_dest stderr"),
    ):
        assert text.count(written) == 1, written
        text = text.replace(written, here)
    # As root, it changes to a user of its own that cannot read here; the image chooses its user.
    (folder / "mosquitto.conf").write_text(text + "user root\n")
    with subprocess.Popen(
        [mosquitto_program, "-c", folder / "mosquitto.conf"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            output = []
            for line in process.stderr:
                output.append(line)
                if line.rstrip().endswith(" running"):
                    break
            else:
                pytest.fail("".join(output))
            yield Broker(inner, outer, (folder / "mosquitto" / "password").read_text())
        finally:
            process.terminate()


def connect(port: int, *credentials: str) -> int:
    """Return the broker's answer to a CONNECT (MQTT 3.1.1, 3.1), with or without a user name and password."""
    flags = 0x02 | (0xC0 if credentials else 0)
    rest = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c"
    for field in ("", *credentials):
        rest += len(field).to_bytes(2, "big") + field.encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(bytes([0x10, len(rest)]) + rest)
        answer = connection.recv(4)
    assert answer[:2] == b"\x20\x02"
    return answer[3]


def test_the_internal_port_needs_no_password(broker: Broker) -> None:
    """The internal port accepts every client that reaches it."""
    assert connect(broker.inner_port) == ACCEPTED


def test_the_published_port_needs_the_password_of_the_first_start(broker: Broker) -> None:
    """The published port accepts the user with the password, and nobody without it."""
    assert connect(broker.outer_port, MQTT_USER, broker.password) == ACCEPTED
    assert connect(broker.outer_port) == NOT_AUTHORISED
    assert connect(broker.outer_port, MQTT_USER, broker.password + "x") == NOT_AUTHORISED
    assert connect(broker.outer_port, "somebody", broker.password) == NOT_AUTHORISED
