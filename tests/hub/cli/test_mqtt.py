"""`hub mqtt check` with a real Mosquitto: its report, and its errors."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish
from typer.testing import CliRunner, Result

from hub.cli.application import app
from tests.services.mosquitto import Mosquitto


@pytest.fixture
def broker(mosquitto_program: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(mosquitto_program, tmp_path / "broker") as running:
        messages: list[Any] = [
            {"topic": "sensors/hall/pump/pressure", "payload": b"3.5", "retain": True, "qos": 1},
            {"topic": "sensors/hall/pump/name", "payload": b"\x80", "retain": True, "qos": 1},
            {"topic": "other", "payload": b"1", "retain": True, "qos": 1},
        ]
        publish.multiple(messages, hostname="127.0.0.1", port=running.port)
        yield running


PRESSURE = {"device": "pump", "metric": "pressure", "type": "float", "value": 3.5, "unit": ""}


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["mqtt", "check", "--seconds", "0.5", *arguments])


def test_the_report_shows_templates_readings_and_rejections(broker: Mosquitto) -> None:
    """Nothing has to be enabled for it."""
    given = ["--url", broker.url, "--topic", "sensors/{site}/{device}/{metric}", "--payload", "value"]
    done = check(*given, "--json")
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)["brokers"]
    assert (report["version"], report["error"], report["messages"]) == ("5", None, 2)
    assert "mosquitto" in report["broker"]
    refused, stored = report["topics"]
    assert stored == {
        "topic": "sensors/hall/pump/pressure",
        "messages": 1,
        "retained": 1,
        "taken_by": "sensors/{site}/{device}/{metric}",
        "also_matches": [],
        "readings": [PRESSURE],
        "refused": {},
        "shapes": [{"messages": 1, "example": "3.5", "readings": [PRESSURE], "refused": [], "duplicate": False}],
    }
    assert (refused["readings"], len(refused["refused"])) == ([], 1)
    text = check(*given).stdout
    assert "pump  pressure  float  3.5" in text
    assert "refused, " in text


def test_the_report_names_the_decoder_that_the_hub_would_use(broker: Mosquitto, tmp_path: Path) -> None:
    """It is the first in the settings; a message is counted once."""
    file = tmp_path / "hub.toml"
    file.write_text(
        f'[[mqtt]]\nurl = "{broker.url}"\npresets = ["esphome=sensors"]\nsubscribe = [\n'
        '{ topic = "sensors/#", payload = "value", device = "all" },\n'.replace("#", "{site}/{device}/{metric}")
        + '{ topic = "{kind}/{site}/{device}/{metric}", payload = "value", device = "{kind}" } ]\n'
    )
    done = check("--config", str(file), "--json")
    (report,) = json.loads(done.stdout)["brokers"]
    _, seen = report["topics"]
    assert (seen["taken_by"], seen["also_matches"], seen["messages"]) == (
        "sensors/{site}/{device}/{metric}", ["{kind}/{site}/{device}/{metric}"], 1
    )  # fmt: skip
    assert [reading["device"] for reading in seen["readings"]] == ["all"]
    assert "decoded by sensors/{site}/{device}/{metric}; {kind}/" in check("--config", str(file)).stdout


def test_the_report_names_topics_that_would_loop(broker: Mosquitto, tmp_path: Path) -> None:
    """It names both templates and a topic that both match."""
    file = tmp_path / "hub.toml"
    file.write_text(
        f'[[mqtt]]\nurl = "{broker.url}"\nsubscribe = [{{ topic = "a/{{device}}/#" }}]\n'
        'publish = [{ topic = "a/{device}/{metric}" }]\n'
    )
    done = check("--config", str(file), "--json")
    (report,) = json.loads(done.stdout)["brokers"]
    (loop,) = report["loops"]
    assert (loop["publish"], loop["subscribe"]) == ("a/{device}/{metric}", "a/{device}/#")


def test_brokers_are_checked_at_the_same_time(tmp_path: Path) -> None:
    """The first one is still connected when the second one is: each is heard for all of the seconds."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        file = tmp_path / "hub.toml"
        tables = [
            f'[[mqtt]]\nname = "{name}"\nurl = "mqtt://127.0.0.1:{server.getsockname()[1]}"\npresets = ["tasmota"]\n'
            for name, server in (("first", first), ("second", second))
        ]
        file.write_text("".join(tables))
        with ThreadPoolExecutor(1) as threads:
            are_together = threads.submit(accept_both, first, second)
            done = check("--config", str(file), "--json")
            assert are_together.result()
    assert [report["error"] is None for report in json.loads(done.stdout)["brokers"]] == [False, False]


def accept_both(first: socket.socket, second: socket.socket) -> bool:
    """Wait for a client of each server and close both; return whether the first had not gone before the second came."""
    earlier, _ = first.accept()
    later, _ = second.accept()
    with earlier, later:
        earlier.recv(1024)
        earlier.setblocking(False)
        try:
            return earlier.recv(1) != b""
        except BlockingIOError:
            return True
        finally:
            first.close()
            second.close()


def test_a_failed_connection_ends_with_1(broker: Mosquitto) -> None:
    """The reason is that nobody listens, or that the port does not speak TLS."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = check("--url", f"mqtt://127.0.0.1:{closed.getsockname()[1]}")
    assert (done.exit_code, "refuses connections; check that it is running" in done.stdout) == (1, True)
    done = check("--url", broker.url.replace("mqtt:", "mqtts:"))
    assert done.exit_code == 1
    assert "TLS" in done.stdout


def test_a_wrong_password_is_reported(mosquitto_program: Path, tmp_path: Path) -> None:
    """A missing password is reported as missing."""
    users = tmp_path / "users"
    users.write_text("")
    users.chmod(0o600)
    settings = ["allow_anonymous false", f"password_file {users}"]
    with Mosquitto(mosquitto_program, tmp_path / "broker", settings=settings) as running:
        assert "requires a user and a password" in check("--url", running.url).stdout
        done = check("--url", running.url, "--user", "somebody", "--password", "wrong")
    assert "rejects this user or password" in done.stdout
    assert done.exit_code == 1


@pytest.mark.parametrize("given", [["--topic", "a"], ["--url", "http://x"], ["--url", "mqtt://x", "--topic", "a/#/b"]])
def test_invalid_options_end_with_2(given: list[str]) -> None:
    """No connection is opened."""
    assert check(*given).exit_code == 2


def test_a_check_takes_no_message_from_a_group_of_hubs(broker: Mosquitto) -> None:
    """It subscribes outside the group, and also gets retained messages, which a group does not get."""
    done = check("--url", broker.url, "--topic", "$share/hubs/sensors/{site}/{device}/{metric}", "--json")
    (report,) = json.loads(done.stdout)["brokers"]
    assert (report["filters"], report["messages"]) == (["sensors/+/+/+"], 2)


def test_a_missing_file_is_named(broker: Mosquitto, tmp_path: Path) -> None:
    """The error names the file and not the broker."""
    done = check("--url", broker.url.replace("mqtt:", "mqtts:"), "--ca", str(tmp_path / "no.pem"))
    assert done.exit_code == 1
    assert f"{tmp_path / 'no.pem'}: file not found" in done.stdout.replace("\n", "")
