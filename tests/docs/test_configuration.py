"""Tests that docs/configuration.md agrees with the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from hub.config.mqtt import MqttSettings
from hub.config.settings import Settings, SettingsError, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([a-z_.]+)` \| `(HUB_[A-Z_]+)` \| `(.*)` \| (.+) \|$", re.MULTILINE)

BROKER_ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (?:`([^`]*)` )?\| ([^|]+) \|$", re.MULTILINE)


def settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield name, environment variable, default and description of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        elif (prefix, name) != ("", "mqtt"):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            variable = f"HUB_{prefix}{name}".upper().replace(".", "__")
            yield f"{prefix}{name}", variable, str(default), field.description or ""


def settings_of_a_broker(model: type[BaseModel] = MqttSettings, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, default and description of every setting of a table [[mqtt]]; its inner tables come last."""
    inner: dict[str, type[BaseModel]] = {}
    for name, field in model.model_fields.items():
        within = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        tables = [kind for kind in within if issubclass(kind, BaseModel)]
        if tables:
            inner[name] = tables[0]
        else:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            yield f"{prefix}{name}", "" if field.is_required() else str(default), field.description or ""
    for name, table in inner.items():
        yield from settings_of_a_broker(table, f"{prefix}{name}.")


def test_every_setting_of_a_broker_is_documented_with_its_default_and_nothing_else_is() -> None:
    """The table of [[mqtt]] has one row per setting, with the default and the description of the code."""
    assert BROKER_ROW.findall(DOCUMENT.read_text().partition("## Settings of MQTT brokers")[2]) == list(
        settings_of_a_broker()
    )


def test_every_setting_is_documented_with_its_default_and_nothing_else_is() -> None:
    """The table has one row per setting, with the variable, default and description of the code."""
    assert ROW.findall(DOCUMENT.read_text()) == list(settings())


def test_the_example_file_of_the_document_is_accepted(tmp_path: Path) -> None:
    """The example can be copied and loads."""
    example = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert example is not None
    file = tmp_path / "hub.toml"
    file.write_text(example[1])
    assert load_settings(file).name == "Plant 3"


GIVEN = "{topic = 'a/{device}/{metric}'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lisen = '127.0.0.1:1'", "lisen: there is no such setting"),
        ("[journal]\nkeep = 3", "journal.keep: there is no such setting"),
        ("[journal]\nmax_bytes = 'much'", "journal.max_bytes: input should be a valid integer"),
        ("listen = 'here'", "listen: expected HOST:PORT"),
        ("listen = ", "Invalid value"),
        ("[store]\nurl = 'influxdb:8086'\nbucket = 'b'", "store.url: expected InfluxDB's address"),
        ("[store]\nurl = 'http://u:p@influxdb'\nbucket = 'b'", "store.url: expected only the address"),
        ("[store]\nurl = 'http://influxdb:8086'", "store: bucket is missing"),
        ("[store]\ntoken = 't'\norg = 'o'", "store: url is missing"),
        ("[store]\nurl = 'http://influxdb'\nbucket = 'b'\ntoken = 't'", "store: org is missing"),
        ("[store]\nurl = 'http://influxdb'\nbucket = 'b'\nuser = 'u'", "store: user and password belong together"),
        ("[store]\nfield = 'value'", "store: field: {metric} must be in the template"),
        ("[store]\nmeasurement = '{devise}'", r"store: measurement: there is no {devise}; there are {device}"),
        ("[store]\ntags = ['device=x']", "store: tags: 'device' is taken"),
        ("[[mqtt]]\nurl = 'localhost:1883'\npresets = ['tasmota']", "mqtt.0.url: expected the broker's address"),
        ("[[mqtt]]\nurl = 'mqtt://u:p@b'\npresets = ['tasmota']", "mqtt.0.url: expected only the address"),
        ("[[mqtt]]\nurl = 'mqtt://b'", "mqtt.0: the broker is not used"),
        ("[[mqtt]]\nurl = 'mqtt://b'\npresets = ['tasmota']\npassword = 'p'", "mqtt.0: user is missing"),
        ("[[mqtt]]\nurl = 'mqtt://b'\npresets = ['tasmota']\ntls_ca = 'p'", "mqtt.0: tls_ca and tls_certificate are"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nshare = 'a/b'\npresets = ['tasmota']",
            "mqtt.0.share: 'a/b' is one level of a topic",
        ),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = 'a/{device'}]", "mqtt.0.subscribe.0: the level"),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = 'a/+'}]", "mqtt.0.subscribe.0: .* needs {device}"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = 'a/{metric}', payload = 'value', device = '{c}'}]",
            "'{c}' may contain only",
        ),
        ("[[mqtt]]\nurl = 'mqtt://b'\npresets = ['zigbee']", "there is no preset 'zigbee': use zigbee2mqtt"),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{device}', payload = 'value'}]", "needs {metric}: a bare"),
        ("[[mqtt]]\nurl = 'mqtt://b'\npublish = [{topic = 'a/{device}'}]", "needs {metric}: a bare value"),
        ("[[mqtt]]\nurl = 'mqtt://b'\npublish = [{topic = '{device}/#'}]", "it must not contain '\\+', '#'"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\npublish = [{topic = '$a/{device}/{metric}'}]",
            "such topics belong to the broker",
        ),
        (
            f"[[mqtt]]\nurl = 'mqtt://b'\npublish = [{', '.join(2 * [GIVEN])}]",
            "mqtt.0: two tables of publish use the topic 'a/{device}/{metric}'",
        ),
        (f"[[mqtt]]\nurl = 'mqtt://b'\npublish = [{GIVEN}]\ndiscovery = {{prefix = 'ha/'}}", "'ha/' begins topics"),
        (f"[[mqtt]]\nurl = 'mqtt://b'\npublish = [{GIVEN}]\ndiscovery = {{prefix = '+'}}", "'\\+' begins topics"),
        ("[[mqtt]]\nurl = 'mqtt://b'\nhost_id = 'h'\nshare = 'g'", "mqtt.0: share is not for Sparkplug"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = 'spBv1.0/+/#', payload = 'sparkplug'}]",
            "the topic 'spBv1.0/\\+/#' does not belong to Sparkplug",
        ),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = 'spBv1.0/#', payload = 'sparkplug', qos = 0}]",
            "qos is not for Sparkplug",
        ),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{metric}', payload = 'value', device = '{metric!r}'}]",
            "device: '{metric!r}' may contain only",
        ),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{a}/#', device = '{{a}'}]", "a brace without its partner"),
        ("zone = 'Berlin'", "zone: the zone 'Berlin' is unknown"),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{device}', zone = 'X'}]", "the zone 'X' is unknown"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{device}', pattern = '('}]",
            "pattern must be set together",
        ),
        ("[[mqtt]]\nurl = 'mqtt://b'\nsubscribe = [{topic = '{device}', time_format = 'soon'}]", "'soon' is unknown"),
        ("[[mqtt]]\nurl = 'mqtt://b'\npresets = ['tasmota']\nrules = {zones = 'UTC'}", "unknown field `zones`"),
        (
            "[[mqtt]]\nurl = 'mqtt://b'\npresets = ['tasmota']\nrules = {format = 'csv'}",
            "a setting of each subscription",
        ),
        (2 * "[[mqtt]]\nurl = 'mqtt://b'\npresets = ['tasmota']\n", "mqtt: two brokers are called 'mqtt'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The error names an unknown key, a wrong value or a broken file, in one line."""
    file = tmp_path / "hub.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(file)
    assert "\n" not in str(error.value)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each level overrides the one below, even inside a section."""
    file = tmp_path / "hub.toml"
    file.write_text("name = 'file'\nlisten = '127.0.0.1:1'\n[store]\nthreads = 2\nmemory_limit = '2GB'\n")
    monkeypatch.setenv("HUB_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("HUB_STORE__THREADS", "3")
    loaded = load_settings(file, {"listen": "127.0.0.1:3"})
    assert (loaded.name, loaded.address, loaded.store.threads, loaded.store.memory_limit) == (
        "file",
        ("127.0.0.1", 3),
        3,
        "2GB",
    )


def test_the_names_of_influxdbs_own_tools_mean_the_stores_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`INFLUXDB_…` variables and their `_FILE` forms override the settings file; an empty variable is ignored."""
    secret = tmp_path / "token"
    secret.write_text("very secret\n")
    file = tmp_path / "hub.toml"
    file.write_text("[store]\nbucket = 'of the file'\norg = 'plant'\n")
    monkeypatch.setenv("INFLUXDB_URL", "http://influxdb:8086/")
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", str(secret))
    monkeypatch.setenv("INFLUXDB_BUCKET", "telemetry")
    monkeypatch.setenv("INFLUXDB_ORG", "")
    store = load_settings(file).store
    assert store.token is not None
    assert (store.url, store.token.get_secret_value(), store.org, store.bucket) == (
        "http://influxdb:8086",
        "very secret",
        "plant",
        "telemetry",
    )
    assert "very secret" not in f"{store!r} {load_settings(file).model_dump(mode='json')}"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"INFLUXDB_TOKEN": "a", "INFLUXDB_TOKEN_FILE": "b"}, "INFLUXDB_TOKEN and INFLUXDB_TOKEN_FILE are both set"),
        ({"INFLUXDB_ORG": "a", "HUB_STORE__ORG": "b"}, "HUB_STORE__ORG and INFLUXDB_ORG have different values"),
        ({"INFLUXDB_TOKEN_FILE": "/nowhere/token"}, "INFLUXDB_TOKEN_FILE: /nowhere/token: No such file"),
        ({"INFLUXDB_PASSWORD_FILE": "/dev/null"}, "INFLUXDB_PASSWORD_FILE: /dev/null is empty"),
    ],
)
def test_contradicting_settings_of_influxdb_are_rejected(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """Two different values for one setting are an error that names both variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()
