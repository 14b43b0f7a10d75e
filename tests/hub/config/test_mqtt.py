"""The settings of a broker: what is valid, and the defaults that follow from other settings.

tests/docs/test_configuration.py has one wrong value of each setting.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hub.config.mqtt import PRESETS, BrokerAddress, MqttSettings

USED = {"presets": ["tasmota"]}
VALUES = {"topic": "s/{device}/{metric}", "payload": "value"}


def broker(**values: Any) -> MqttSettings:
    return MqttSettings(**{"url": "mqtt://broker", **USED, **values})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtt://broker:99/", ("broker", 99, False)),
        ("mqtt://[::1]", ("::1", 1883, False)),
    ],
)
def test_the_scheme_decides_port_and_tls(url: str, address: tuple[str, int, bool]) -> None:
    """A port in the address is used as it is."""
    assert broker(url=url).address == BrokerAddress(*address)


@pytest.mark.parametrize(
    "values",
    [
        {"presets": [*PRESETS]},
        {"presets": ["zigbee2mqtt=home/z2m", "esphome=a/{device}"]},
        {"presets": [], "host_id": "plant"},
        {"presets": [], "subscribe": [VALUES]},
        {"presets": [], "subscribe": [{"topic": "s/#", "device": "all"}]},
        {"presets": [], "subscribe": [{"topic": "{site}/{unit}", "device": "{site}-{unit}", "payload": "senml"}]},
        {"presets": [], "subscribe": [{"topic": "s", "payload": "line"}]},
        {"presets": [], "subscribe": [{"topic": "s/#", "payload": "function", "function": "decode.py"}]},
        {"presets": [], "subscribe": [{"topic": "spBv1.0/plant/#", "payload": "sparkplug"}]},
        {"presets": [], "publish": [{"topic": "hub/{device}/{metric}"}, {"topic": "h/{device}", "payload": "json"}]},
        {"publish": [{"topic": "a/{device}/{metric}", "devices": devices} for devices in ("x", "y")]},
        {"publish": [{"topic": "a/{device}/{metric}"}], "discovery": {"enabled": True, "prefix": "a/b"}},
        {"user": "u", "password": "p"},
        {"user": "u", "password_file": "p"},
        {"user": "u"},
        {"url": "mqtts://b", "tls_ca": "ca.pem", "tls_certificate": "c.pem", "tls_key": "k.pem"},
        {"will_topic": ""},
        {"will_topic": "a/{client_id}/b"},
        {"publish": [{"topic": "a/{device}/{metric}"}], "presence_topic": "a/{device}/presence"},
        {"subscribe": [], "allow_commands": True, "command_topic": "a/{device}/{command}", "command_devices": ["*"]},
    ],
)  # fmt: skip
def test_these_settings_are_valid(values: dict[str, Any]) -> None:
    """Every way to use a broker."""
    broker(**values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"user": "u", "password": "p", "password_file": "f"}, "both set"),
        ({"password_file": "f"}, "user is missing"),
        ({"url": "mqtts://b", "tls_key": "k"}, "tls_certificate and tls_key belong together"),
        ({"presets": ["tasmota="]}, "has no base topic"),
        ({"presets": ["tasmota=a/{b"]}, ""),
        ({"will_topic": "a/{device}"}, "may contain {client_id}"),
        ({"will_topic": "a/+"}, "but not '+' or '#'"),
        ({"publish": [{"topic": "a/{device}/{metric}"}], "presence_topic": "a/presence"}, "needs {device}"),
        ({"publish": [], "presence_topic": "a/{device}"}, "add publish"),
        ({"command_topic": "a/{device}/{command}", "command_devices": ["*"]}, "set allow_commands = true"),
        ({"allow_commands": True, "command_topic": "a/{device}/{command}"}, "command_devices belong together"),
        ({"allow_commands": True, "command_topic": "a/{device}", "command_devices": ["*"]}, "needs {device} and"),
        ({"allow_commands": True, "setting_topic": "a/{device}", "command_devices": ["*"]}, "{setting}, and no other"),
        (
            {"allow_commands": True, "setting_topic": "a/{device}/{setting}", "command_devices": ["*"], "publish": []},
            "setting_topic is for a broker that gets readings",
        ),
        (
            {
                "allow_commands": True,
                "command_topic": "a/{device}/{command}",
                "command_devices": ["*"],
                "share": "group",
            },
            "not for hubs that share messages",
        ),
        ({"commands": [{"name": "stop", "topic": "a/{device}"}]}, "set allow_commands = true"),
        (
            {"allow_commands": True, "commands": [{"name": "set speed", "topic": "a/{device}"}]},
            "the command 'set speed': Expected `str` matching regex",
        ),
        (
            {
                "allow_commands": True,
                "commands": [{"name": "stop", "topic": "a/{device}", "parameters": [{"name": "x", "mim": 1}]}],
            },
            "the parameter x of 'stop': Object contains unknown field `mim`",
        ),
        ({"allow_commands": True, "commands": [{"name": "stop", "topic": "a/{device"}]}, "may contain one placeholder"),
        ({"client_id": "a/b"}, "is one level of a topic"),
        ({"host_id": "a+b"}, "is one level of a topic"),
        ({"name": "Plant"}, "match"),
        ({"keepalive": 4}, "greater than or equal"),
        ({"discovery": {"enabled": True}, "publish": [{"topic": "a/{device}", "payload": "line"}]}, "discovery needs"),
        ({"subscribe": [{**VALUES, "function": "f.py"}]}, "belong together"),
        ({"subscribe": [{"topic": "s/{device}", "payload": "function"}]}, "belong together"),
        ({"publish": [{"topic": "a/{metric}"}]}, "devices overwrite each other"),
        ({"publish": [{"topic": "$share/g/{device}/{metric}"}]}, "it must not contain"),
        ({"publish": [{"topic": "a/{device}/{metric}", "every": float("inf")}]}, "finite"),
    ],
)
def test_these_settings_are_not(values: dict[str, Any], says: str) -> None:
    """Beside those that the test of the document has."""
    with pytest.raises(ValidationError) as error:
        broker(**values)
    assert says in str(error.value)


def test_a_password_is_not_shown() -> None:
    """Neither in the log nor in a dump."""
    settings = broker(user="u", password="very secret")
    assert "very secret" not in f"{settings!r} {settings} {settings.model_dump(mode='json')}"
