"""The settings in agent.toml."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.reporting import ReportRule
from device_agent.settings import (
    MAX_FILE_BYTES,
    AgentSettings,
    AgentSettingsError,
    AgentTlsSettings,
    default_spool,
    device_id_of,
    load_settings,
    state_directory,
    with_options,
)
from device_agent.sources.host import HostSettings
from device_agent.sources.serial import SerialSettings
from device_agent.sources.settings import KINDS, settings_class
from formats.rules import Rules
from wire.model import device_id_problem

WHOLE = """
hub = "https://hub.example:8600"
device = "kiln"
token_file = "agent.token"
spool_directory = "/var/lib/agent"
spool_bytes = 1_000_000
wire_format = "json"
compression = true
proxy = "http://proxy:3128"
zone = "Europe/Berlin"
log_level = "debug"
tags = { site = "north" }
[tls]
ca = "ca.pem"
certificate = "agent.pem"
key = "agent.key"
[[report]]
metrics = ["*.t"]
deadband = 0.5
max_interval_s = 60
[[source]]
kind = "host"
interval_s = 5
[[source]]
kind = "serial"
name = "board"
device = "boiler"
prefix = "b."
port = "/dev/ttyUSB0"
format = "csv"
time = "ts"
[source.types]
t = "float"
"""


def load(tmp_path: Path, text: str) -> AgentSettings:
    file = tmp_path / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def problems(tmp_path: Path, text: str) -> list[str]:
    """Return the problems of a file, without its path."""
    with pytest.raises(AgentSettingsError) as raised:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/agent.toml") for line in str(raised.value).splitlines()]


def test_all_settings_are_read(tmp_path: Path) -> None:
    """Paths begin at the file; the rules of a source are in its own table."""
    assert load(tmp_path, WHOLE) == AgentSettings(
        hub="https://hub.example:8600",
        device="kiln",
        token_file=tmp_path / "agent.token",
        spool_directory=Path("/var/lib/agent"),
        spool_bytes=1_000_000,
        wire_format="json",
        compression=True,
        proxy="http://proxy:3128",
        zone="Europe/Berlin",
        log_level="debug",
        tags={"site": "north"},
        tls=AgentTlsSettings(ca=tmp_path / "ca.pem", certificate=tmp_path / "agent.pem", key=tmp_path / "agent.key"),
        report=(ReportRule(metrics=("*.t",), deadband=0.5, max_interval_s=60),),
        source=(
            HostSettings(interval_s=5),
            SerialSettings(
                name="board",
                device="boiler",
                prefix="b.",
                port="/dev/ttyUSB0",
                rules=Rules(format="csv", time=("ts",), types={"t": "float"}),
            ),
        ),
    )


def test_sources_are_grouped_by_their_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source without a device belongs to the agent's, which is named after the computer by default."""
    settings = load(tmp_path, WHOLE)
    assert {name: [s.name or s.default_name for s in sources] for name, sources in settings.devices.items()} == {
        "kiln": ["host"], "boiler": ["board"],
    }  # fmt: skip
    assert settings.spool_of("boiler") == Path("/var/lib/agent/boiler.spool")
    assert str(settings.context_of(settings.source[1]).zone) == "Europe/Berlin"
    monkeypatch.setattr("socket.gethostname", lambda: "my computer")
    assert list(load(tmp_path, '[[source]]\nkind = "host"').devices) == ["my-computer"]


def test_every_problem_is_reported_at_once_with_its_key_and_line(tmp_path: Path) -> None:
    """A misspelt key has a suggestion; valid tables between wrong ones are no trouble."""
    text = """hub = "hub.example"
devise = "kiln"
spool_bytes = 3
log_level = "warn"
tags = { site = 5 }
[tls]
ca = ""
key = "k.pem"
[[report]]
deadbnd = 1
[[report]]
max_interval_s = 5
[[source]]
kind = "host"
intervall_s = 5
[[source]]
kind = "serial"
baud = "fast"
format = "cvs"
time = 5
[[source]]
kind = "seriall"
[[source]]
port = "/dev/x"
[[source]]
kind = "serial"
port = "/dev/x"
format = "regex"
[[source]]
kind = "serial"
port = "/dev/y"
[[source]]
kind = "serial"
port = "/dev/y"
device = "a b"
"""
    assert problems(tmp_path, text) == [
        ":1: hub: 'hub.example' is not the URL of a hub; use a URL like http://127.0.0.1:8600 or wss://hub.example",
        ":2: devise: there is no such setting; did you mean device?",
        ":3: spool_bytes: expected `int` >= 65536",
        ":4: log_level: 'warn' is not valid; did you mean warning? Use one of debug, info, warning, error",
        ":5: tags.site: expected `str`, got `int`",
        ":7: tls.ca: expected the path of a file or directory",
        ":10: report 1: deadbnd: there is no such setting; did you mean deadband?",
        ":11: report 2: max_interval_s needs deadband, deadband_percent or min_interval_s: nothing is suppressed",
        ":15: source 1 (host): intervall_s: there is no such setting; did you mean interval_s?",
        ":16: source 2 (serial): port: this setting is missing",
        ":18: source 2 (serial): baud: expected `int`, got `str`",
        ":19: source 2 (serial): format: 'cvs' is not valid; did you mean csv?",
        ":20: source 2 (serial): time: expected `array`, got `int`",
        ":22: source 3 (seriall): kind: 'seriall' is not a kind of source; did you mean serial?",
        f":23: source 4 (/dev/x): kind: kind is missing: use one of {', '.join(sorted(KINDS))}",
        ':25: source 5 (serial /dev/x): format = "regex" and pattern must be set together',
        ":32: source 7 (serial /dev/y): two sources are called '/dev/y': give each its own `name`",
        f":35: source 7 (serial /dev/y): device: {device_id_problem('a b')}",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": source: there is no [[source]]: an agent needs at least one"),
        ('hub = "a\nb"', ":1: not TOML: Illegal character '\\n' (at line 1, column 9)"),
        ('[source]\nkind = "host"', ":1: source: write [[source]] in two brackets: there can be several"),
        ("source = [5]", ":1: source 1: kind: kind is missing: use one of"),
        ('zone = "Nowhere"\n[[source]]\nkind = "host"', ":1: zone: the time zone 'Nowhere' is unknown"),
        ('[tls]\ncertificate = "x"\n[[source]]\nkind = "host"', ":1: tls.key: certificate and key belong together"),
        ('[[source]]\nkind = "host"\nrules = 5', ":3: source 1 (host): rules: there is no such setting"),
        ('[[source]]\nkind = "serial"\nport = "/x"\nrules = 5', ":4: source 1 (serial /x): rules: there is no"),
        (
            '[[source]]\nkind = "command"\ncommand = "rtl_433"',
            ":3: source 1 (command rtl_433): command: expected `array`, got `str`: write a list in brackets, such as [",
        ),
        ('[[report]]\ndeadband = "a"', ":2: report 1: deadband: expected `float`, got `str`"),
        ('[[source]]\nkind = "serial"\nport = "/x"\nzone = "X/Y"', ":1: source 1 (serial /x): the time zone 'X/Y' is"),
        ('[[source]]\nkind = "serial"\nport = "/x"\nformat = "function"', ":1: source 1 (serial /x): format = "),
        ('[[source]]\nkind = "host"\n' * 17, ":33: source 17 (host): more than 16 of [[source]]"),
        (
            '[[source]]\nkind = "modbus"\nport = "/x"\n[[source.maps]]\nslave = 1\nfields.u.address = -1',
            ":6: source 1 (modbus /x): maps 1: fields.u.address: expected `int` >= 0",
        ),
        (
            '[[source]]\nkind = "modbus"\nport = "/x"\n[[source.maps]]\nslave = 1\nfields.u.type = "int16"',
            ":6: source 1 (modbus /x): maps 1: fields.u.type: 'int16' is not valid; did you mean i16? Use one of u16,",
        ),
        (
            '[[source]]\nkind = "host"\n' + "".join(f"[[report]]\nmax_rows = {n}\n" for n in range(1, 17)),
            ": report: the rules have more than 15 different pairs",
        ),
        ("# " + "x" * MAX_FILE_BYTES, ": larger than 262,144 bytes"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, problem: str) -> None:
    """One sentence, with the line if there is one."""
    assert any(found.startswith(problem) for found in problems(tmp_path, text)), problems(tmp_path, text)


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    """So is a file that is not UTF-8."""
    with pytest.raises(AgentSettingsError, match="No such file"):
        load_settings(tmp_path / "absent.toml")
    (tmp_path / "agent.toml").write_bytes(b"hub = '\xff'")
    with pytest.raises(AgentSettingsError, match="not UTF-8"):
        load_settings(tmp_path / "agent.toml")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    """The options of TLS replace single settings of the table."""
    settings = with_options(load(tmp_path, WHOLE), {"hub": "http://other", "ca": "other.pem"})
    assert (settings.hub, settings.tls.ca, settings.tls.key) == (
        "http://other", Path("other.pem"), tmp_path / "agent.key",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "device"),
    [("raspberry", "raspberry"), ("the boss's laptop", "the-boss-s-laptop"), ("..", "device"), ("ü" * 3, "device")],
)
def test_any_name_makes_an_id(name: str, device: str) -> None:
    """The name of a computer or a port becomes a device id."""
    assert device_id_of(name) == device
    assert device_id_of("x" * 99) == "x" * 64


def test_a_service_keeps_its_spools_where_systemd_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """STATE_DIRECTORY can name several directories; a user's own directory is the default."""
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert default_spool("kiln") == Path("/home/x/state/telemetry-hub/kiln.spool")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/agent:/var/lib/other")
    assert default_spool("kiln") == Path("/var/lib/agent/kiln.spool")


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.local/state/telemetry-hub"),
        ("linux", {"XDG_STATE_HOME": "/state"}, "/state/telemetry-hub"),
        ("linux", {"LOCALAPPDATA": "/local"}, "home/.local/state/telemetry-hub"),
        ("darwin", {}, "home/Library/Application Support/telemetry-hub"),
        ("darwin", {"XDG_STATE_HOME": "/state"}, "/state/telemetry-hub"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/telemetry-hub"),
        ("win32", {}, "home/AppData/Local/telemetry-hub"),
    ],
)
def test_spools_are_where_a_system_keeps_such_files(
    tmp_path: Path, platform: str, environment: dict[str, str], expected: str
) -> None:
    """A directory of an earlier version stays in use until there is one by the convention."""
    home = tmp_path / "home"
    found = state_directory(platform, environment, home)
    assert found == tmp_path / expected
    earlier = home / ".local" / "state" / "telemetry-hub"
    earlier.mkdir(parents=True)
    if "XDG_STATE_HOME" not in environment:
        assert state_directory(platform, environment, home) == earlier
    if found.is_relative_to(tmp_path):
        found.mkdir(parents=True, exist_ok=True)
        assert state_directory(platform, environment, home) == found


def toml_of(value: object) -> str:
    """Return a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_of(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return json.dumps(value)


KEYS = sorted(
    {"kind", *AgentSettings.__struct_fields__, *ReportRule.__struct_fields__, *Rules.__struct_fields__}
    | {key for kind in KINDS for key in settings_class(kind).__struct_fields__}
)
WORDS = st.sampled_from(["", "kiln", "csv", "Europe/Berlin", *KINDS])
PLAIN = WORDS | st.integers(-1, 9) | st.booleans()
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


SOURCES = st.builds(
    lambda kind, values: {"kind": kind, **values},
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
)
DOCUMENTS = st.dictionaries(st.sampled_from([*AgentSettings.__struct_fields__, "other"]), VALUES, max_size=5)


@given(DOCUMENTS, st.lists(SOURCES, max_size=3))
def test_any_file_is_settings_or_a_list_of_problems(
    document: dict[str, object], sources: list[dict[str, object]]
) -> None:
    """Never another error; each problem has a sentence, and a line if its key is in the file."""
    if sources:
        document = {**document, "source": sources}
    with TemporaryDirectory() as folder:
        try:
            settings = load(Path(folder), "".join(f"{key} = {toml_of(value)}\n" for key, value in document.items()))
        except AgentSettingsError as error:
            assert all(problem.text and (problem.line or problem.key[0] not in document) for problem in error.problems)
        else:
            assert settings.devices
