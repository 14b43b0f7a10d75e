"""The settings of an agent in agent.toml: read once into frozen values, with all problems of the file at once.

docs/agent.md describes every setting; a test compares the two.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from agent_client.endpoint import AddressError, device_url
from agent_client.rule_files import zone_of
from device_agent.agent import MAX_BATCHINGS
from device_agent.operator_commands.settings import ConfiguredCommand, ConfiguredSetting
from device_agent.reporting import ReportRule
from device_agent.sources.settings import KINDS, SourceContext, SourceSettings, settings_class
from device_agent.spool.durable import DEFAULT_MAX_BYTES
from device_agent.toml_lines import KeyPath, key_lines, line_of, place_text
from formats.rules import Rules, RulesError, rules_of
from wire.codec import Format
from wire.device import Tags
from wire.limits import MAX_COMMANDS, MAX_DEVICE_ID, MAX_SETTINGS, MAX_SOURCES
from wire.model import device_id_problem

NAME = "telemetry-hub"
"""Directory of this project among those of the user's programs."""

DEFAULT_HUB = "http://127.0.0.1:8600"

MIN_SPOOL_BYTES = 1 << 16

MAX_FILE_BYTES = 256 * 1024
"""Bound of the file: far above the largest configuration, and parsed in half a second on a small computer."""

MAX_REPORT_RULES = 100
"""Bound of the rules, which are matched once for each metric."""

MAX_LISTED_WORDS = 10
"""Words that are all shown beside a suggestion."""

MAX_CONFIGURED_COMMANDS = MAX_COMMANDS
MAX_CONFIGURED_SETTINGS = MAX_SETTINGS
"""Bounds of the commands and of the settings of all devices."""

NO_RULES = frozenset({"device"})
"""Rules that a source cannot have: its device is fixed, because the token and the spool belong to one device."""

_TLS_OPTIONS = {"ca": "ca", "client_certificate": "certificate", "client_key": "key"}

_PATH_OPTIONS = frozenset({"token_file", *_TLS_OPTIONS})

OPTIONS_OVER_FILE = frozenset({"hub", "device", "token_file", "wire_format", "proxy", "log_level", *_TLS_OPTIONS})
"""Options of `device-agent run` that win over the file."""

_Struct = TypeVar("_Struct", bound=Struct)


class AgentTlsSettings(Struct, frozen=True, kw_only=True):
    """Authorities that may sign the hub's certificate, and the certificate of the agent."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class AgentSettings(Struct, frozen=True, kw_only=True):
    """All settings of an agent.

    `device` is empty for the name of this computer. `spool_directory` is None for the directory of the service, or of
    the user. `compression` compresses the frames on their way to the hub. `zone` is the zone of times without an
    offset. The first rule of `report` that matches a metric decides when it is reported.
    """

    hub: str = DEFAULT_HUB
    device: str = ""
    token_file: Path | None = None
    spool_directory: Path | None = None
    spool_bytes: Annotated[int, Meta(ge=MIN_SPOOL_BYTES)] = DEFAULT_MAX_BYTES
    wire_format: Format = "msgpack"
    compression: bool = False
    proxy: str = ""
    zone: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tags: Tags = {}
    tls: AgentTlsSettings = AgentTlsSettings()
    report: tuple[ReportRule, ...] = ()
    source: tuple[SourceSettings, ...] = ()
    command: tuple[ConfiguredCommand, ...] = ()
    setting: tuple[ConfiguredSetting, ...] = ()

    @property
    def devices(self) -> dict[str, list[SourceSettings]]:
        """The devices, with their sources."""
        devices: dict[str, list[SourceSettings]] = {}
        for source in self.source:
            devices.setdefault(self.device_of(source), []).append(source)
        return devices

    def device_of(self, source: SourceSettings) -> str:
        """Return the device of a source."""
        return source.device or self.device or device_id_of(socket.gethostname())

    def device_of_command(self, command: ConfiguredCommand | ConfiguredSetting) -> str:
        """Return the device of a command or a setting: that of its source, its own, the only one, or the agent's."""
        source = self.sources_by_name.get(command.source)
        if source is not None:
            return self.device_of(source)
        only = next(iter(self.devices)) if len(self.devices) == 1 else ""
        return command.device or only or self.device or device_id_of(socket.gethostname())

    @property
    def sources_by_name(self) -> dict[str, SourceSettings]:
        """The sources by their names."""
        return {source.name or source.default_name: source for source in self.source}

    def spool_of(self, device: str) -> Path:
        """Return the path of a device's spool."""
        return default_spool(device) if self.spool_directory is None else self.spool_directory / f"{device}.spool"

    def context_of(self, source: SourceSettings) -> SourceContext:
        """Return the values that a source gets from the agent. Raises RulesError."""
        return SourceContext(self.device_of(source), zone_of(self.zone))


class SettingsProblem(NamedTuple):
    """A problem of the file, at a key and a line; None for a key that the file lacks.

    `place` is the key for people, empty for the whole file.
    """

    key: KeyPath
    line: int | None
    text: str
    place: str = ""

    def sentence(self, file: Path) -> str:
        """Return the problem as a line for people, in the form that editors open."""
        place = f"{file}:{self.line}" if self.line else f"{file}"
        return f"{place}: {self.place}: {self.text}" if self.place else f"{place}: {self.text}"


class AgentSettingsError(Exception):
    """Settings that cannot be used; `problems` are all of them."""

    def __init__(self, file: Path, problems: list[SettingsProblem]) -> None:
        super().__init__("\n".join(problem.sentence(file) for problem in problems))
        self.problems = problems


def load_settings(file: Path) -> AgentSettings:
    """Return the settings in a file. Raises AgentSettingsError with all problems of the file."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise AgentSettingsError(file, [SettingsProblem((), None, f"larger than {MAX_FILE_BYTES:,} bytes")])
        text = content.decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise AgentSettingsError(file, [SettingsProblem((), None, error.strerror or str(error))]) from None
    except UnicodeDecodeError as error:
        raise AgentSettingsError(file, [SettingsProblem((), None, f"not UTF-8: {error}")]) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise AgentSettingsError(
            file, [SettingsProblem((), int(found[1]) if found else None, f"not TOML: {error}")]
        ) from None
    reader = _Reader(file.parent)
    settings = reader.settings(document)
    if settings is None or reader.problems:
        raise AgentSettingsError(file, sorted(located(reader.problems, text), key=lambda problem: problem.line or 0))
    return settings


def located(problems: Iterable[tuple[KeyPath, str]], text: str) -> list[SettingsProblem]:
    """Return the problems with their lines and places in the text of the file."""
    document, lines = tomllib.loads(text), key_lines(text)
    return [SettingsProblem(key, line_of(lines, key), found, place_text(key, document)) for key, found in problems]


@dataclass(slots=True)
class _Reader:
    """Reader of the tables of one file, which collects their problems. Relative paths begin in its `directory`."""

    directory: Path
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)

    def settings(self, document: dict[str, Any]) -> AgentSettings | None:
        """Return the settings; None, or with `problems`, if there are problems."""
        values = self._values(AgentSettings, document, (), own={"tls", "report", "source", "command", "setting"})
        values["tls"] = self._table(AgentTlsSettings, document.get("tls", {}), ("tls",)) or AgentTlsSettings()
        values["report"] = tuple(self._list(document, "report", MAX_REPORT_RULES, self._report).values())
        sources = self._list(document, "source", MAX_SOURCES, self._source)
        values["source"] = tuple(sources.values())
        commands = self._list(document, "command", MAX_CONFIGURED_COMMANDS, self._command)
        values["command"] = tuple(commands.values())
        desired = self._list(document, "setting", MAX_CONFIGURED_SETTINGS, self._setting)
        values["setting"] = tuple(desired.values())
        if not document.get("source"):
            self.problems.append((("source",), "there is no [[source]]: an agent needs at least one"))
        settings = AgentSettings(**values)
        self.problems += (*_contradictions(settings), *_contradictions_of_sources(settings, sources))
        if not self.problems:
            self.problems += _contradictions_of_commands(settings, commands, "command")
            self.problems += _contradictions_of_commands(settings, desired, "setting")
        return settings

    def _list(
        self, document: dict[str, Any], name: str, bound: int, read: Callable[[Any, KeyPath], _Struct | None]
    ) -> dict[int, _Struct]:
        """Return the valid tables of an array by their index."""
        tables = document.get(name, [])
        if not isinstance(tables, list):
            self.problems.append(((name,), f"write [[{name}]] in two brackets: there can be several"))
            return {}
        if len(tables) > bound:
            self.problems.append(((name, bound), f"more than {bound} of [[{name}]]"))
        read_tables = {number: read(table, (name, number)) for number, table in enumerate(tables[:bound])}
        return {number: table for number, table in read_tables.items() if table is not None}

    def _report(self, table: Any, path: KeyPath) -> ReportRule | None:
        return self._table(ReportRule, table, path)

    def _command(self, table: Any, path: KeyPath) -> ConfiguredCommand | None:
        return self._table(ConfiguredCommand, table, path)

    def _setting(self, table: Any, path: KeyPath) -> ConfiguredSetting | None:
        return self._table(ConfiguredSetting, table, path)

    def _source(self, table: Any, path: KeyPath) -> SourceSettings | None:
        kind = table.get("kind") if isinstance(table, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            found = "kind is missing" if kind is None else f"{kind!r} is not a kind of source"
            hint = _suggestion(str(kind), KINDS) or f": use one of {', '.join(sorted(KINDS))}"
            self.problems.append(((*path, "kind"), f"{found}{hint}"))
            return None
        try:
            made_of = settings_class(kind)
        except ImportError as error:
            self.problems.append(((*path, "kind"), f"{kind} is not available on this system: {error}"))
            return None
        return self._table(made_of, {key: value for key, value in table.items() if key != "kind"}, path)

    def _table(self, made_of: type[_Struct], table: Any, path: KeyPath) -> _Struct | None:
        """Return a table as a struct; None if a setting is missing or wrong."""
        if not isinstance(table, dict):
            self.problems.append((path, "expected a table of settings"))
            return None
        before = len(self.problems)
        has_rules = "rules" in made_of.__struct_fields__
        values = self._values(made_of, table, path, own={"rules"} if has_rules else set(), has_rules=has_rules)
        if has_rules:
            values["rules"] = self._rules(table, path)
        if len(self.problems) > before:
            return None
        try:
            return made_of(**values)
        except (TypeError, ValueError) as error:
            self.problems.append((path, str(error)))
            return None

    def _values(
        self, made_of: type[Struct], table: dict[str, Any], path: KeyPath, *, own: set[str], has_rules: bool = False
    ) -> dict[str, Any]:
        """Return the valid values for the fields of a struct, except its `own`; record unknown and missing keys."""
        fields = {found.name: found for found in msgspec.structs.fields(made_of)}
        rules = set(Rules.__struct_fields__) - NO_RULES if has_rules else set()
        known = (fields.keys() - ({"rules"} if has_rules else set())) | rules
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                self.problems.append(((*path, key), f"there is no such setting{_suggestion(key, known)}"))
            elif key in fields and key not in own:
                self._convert(values, key, value, fields[key].type, (*path, key))
        for name, found in fields.items():
            if found.required and name not in table and name not in own:
                self.problems.append(((*path, name), "this setting is missing"))
        return values

    def _rules(self, table: dict[str, Any], path: KeyPath) -> Rules:
        values: dict[str, Any] = {}
        for found in msgspec.structs.fields(Rules):
            if found.name in table and found.name not in NO_RULES:
                value = table[found.name]
                if found.name == "time" and isinstance(value, str):
                    value = [value]
                self._convert(values, found.name, value, found.type, (*path, found.name))
        try:
            rules = rules_of(values)
            zone_of(rules.zone)
        except RulesError as error:
            self.problems.append((path, str(error)))
            return Rules()
        return rules

    def _convert(self, values: dict[str, Any], key: str, value: Any, wanted: Any, path: KeyPath) -> None:
        try:
            values[key] = msgspec.convert(value, wanted, dec_hook=self._path)
        except msgspec.ValidationError as error:
            inner, text = value_problem(wanted, value, error)
            if isinstance(value, str) and text.startswith("expected `array`"):
                text += ": write a list in brackets"
                text += ', such as ["rtl_433", "-F", "json"]' if key == "command" else ""
            self.problems.append(((*path, *inner), text))

    def _path(self, wanted: type[Any], value: Any) -> Path:
        assert wanted is Path, wanted  # msgspec reads all other types of settings itself
        if not isinstance(value, str) or not value:
            raise ValueError("expected the path of a file or directory")
        return self.directory / Path(value).expanduser()


def _contradictions(settings: AgentSettings) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of valid settings that do not fit together."""
    try:
        device_url(settings.hub)
    except AddressError as error:
        yield ("hub",), str(error)
    if settings.device and (problem := device_id_problem(settings.device)):
        yield ("device",), problem
    if len({(rule.max_delay_ms, rule.max_rows) for rule in settings.report}) >= MAX_BATCHINGS:
        yield ("report",), f"the rules have more than {MAX_BATCHINGS - 1} different pairs of max_delay_ms and max_rows"
    tls = settings.tls
    if (tls.certificate is None) != (tls.key is None):
        yield ("tls", "key" if tls.key is None else "certificate"), "certificate and key belong together: set both"
    try:
        zone_of(settings.zone)
    except RulesError as error:
        yield ("zone",), str(error)


def _contradictions_of_sources(
    settings: AgentSettings, sources: Mapping[int, SourceSettings]
) -> Iterator[tuple[KeyPath, str]]:
    names: set[str] = set()
    for number, source in sources.items():
        path: KeyPath = ("source", number)
        name = source.name or source.default_name
        if name in names:
            yield path, f"two sources are called {name!r}: give each its own `name`"
        names.add(name)
        if source.device and (problem := device_id_problem(source.device)):
            yield (*path, "device"), problem
            continue
        try:
            source.source(SourceContext(settings.device_of(source)))
        except RulesError as error:
            yield path, str(error)


def _contradictions_of_commands(
    settings: AgentSettings, commands: Mapping[int, ConfiguredCommand | ConfiguredSetting], table: str
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of commands, or of settings, with the sources, which are valid."""
    names: set[tuple[str, str]] = set()
    for number, command in commands.items():
        path: KeyPath = (table, number)
        device = settings.device_of_command(command)
        if device not in settings.devices:
            known = ", ".join(settings.devices)
            yield (*path, "device"), f"no source has the device {device!r}: use one of {known}"
        if (device, command.name) in names:
            yield (*path, "name"), f"{device} has two {table}s {command.name!r}"
        names.add((device, command.name))
        for key, problem in command.source_problems(settings.sources_by_name):
            yield (*path, key), problem


def value_problem(wanted: Any, value: Any, error: msgspec.ValidationError) -> tuple[KeyPath, str]:
    """Return the key inside a value that is not of the wanted type, and why; with the known words if it is one of some.

    The path in msgspec's error, such as `$.maps[0].fields[...].type`, does not name the keys of a table.
    """
    text, _, place = str(error).partition(" - at `$")
    path: list[str | int] = []
    wanted = _plain(wanted)
    for name, index in re.findall(r"\.(\w+)|\[([^\]]*)\]", place):
        if name:
            key: str | int = name
            wanted = next(found.type for found in msgspec.structs.fields(wanted) if found.name == name)
        elif index.isdecimal():
            key, wanted = int(index), get_args(wanted)[0]
        else:
            wanted = get_args(wanted)[1]
            key = next(key for key, element in value.items() if not _is_valid(element, wanted))
        path.append(key)
        value, wanted = value[key], _plain(wanted)
    if get_origin(wanted) is not Literal:
        return tuple(path), f"{text[:1].lower()}{text[1:].replace(' | null', '')}"  # TOML has no null
    words = [str(word) for word in get_args(wanted)]
    known = ", ".join(words)
    hint = _suggestion(str(value), words)
    if not hint:
        hint = f": use one of {known}"
    elif len(words) <= MAX_LISTED_WORDS:
        hint += f" Use one of {known}"
    return tuple(path), f"{value!r} is not valid{hint}"


def _plain(wanted: Any) -> Any:
    """Return a type without its bounds, and without None."""
    while get_origin(wanted) in (Annotated, Union, UnionType):
        wanted = next(part for part in get_args(wanted) if part is not NoneType)
    return wanted


def _is_valid(value: Any, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True


def with_options(settings: AgentSettings, given: Mapping[str, str]) -> AgentSettings:
    """Return the settings with options of the command line, named as in OPTIONS_OVER_FILE, which win."""
    values = {name: Path(value) if name in _PATH_OPTIONS else value for name, value in given.items()}
    tls = {name: values.pop(option) for option, name in _TLS_OPTIONS.items() if option in given}
    return replace(settings, tls=replace(settings.tls, **tls), **values)


def _suggestion(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def device_id_of(name: str) -> str:
    """Return a valid device id made from a name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:MAX_DEVICE_ID] or "device"


def default_spool(device: str) -> Path:
    """Return the path of a device's spool: in the directory that systemd gives to the service, or in the user's."""
    if service := os.environ.get("STATE_DIRECTORY"):
        return Path(service.split(":")[0]) / f"{device}.spool"
    return state_directory(sys.platform, os.environ, Path.home()) / f"{device}.spool"


def token_path(spool: Path) -> Path:
    """Return the path of the token that an agent receives when it asks for access, and has no other file for it."""
    return spool.with_suffix(".token")


def state_directory(platform: str, environment: Mapping[str, str], home: Path) -> Path:
    """Return the directory of the user's spools by the conventions of a system: `platform` is that of `sys`.

    A directory of a version without these conventions stays in use.
    """
    earlier = home / ".local" / "state" / NAME
    if state := environment.get("XDG_STATE_HOME"):
        return Path(state) / NAME
    if platform == "win32":
        found = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / NAME
    elif platform == "darwin":
        found = home / "Library" / "Application Support" / NAME
    else:
        return earlier
    return earlier if earlier.is_dir() and not found.is_dir() else found
