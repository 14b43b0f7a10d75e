"""Commands of `device-agent` for sources on the network, for programs and for recorded files."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec
import typer

from agent_client.option_group import option_words, with_option_groups
from agent_client.rule_options import RuleOptions, options_text
from agent_client.trial import InputUnreadable
from device_agent.errors import FAILED, MISUSE
from device_agent.sources import Source
from device_agent.sources.command import ENDED
from device_agent.sources.settings import SourceContext, SourceSettings, settings_class
from device_agent.uplink_options import UplinkOptions, completed_options, fail, stream, with_earlier_format
from formats.rules import Rules, RulesError, toml_value
from wire.text import escaped, plural

Silence = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Begin again when nothing arrives for this long.")
]
Send = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Send this first (repeatable).")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="NETWORK", help="Read only this network, like 192.168.1.0/24 (repeatable). Default: all."),
]


@dataclass(frozen=True)
class TrialOptions:
    """Option of all commands of sources that can be tried."""

    try_s: Annotated[
        float | None,
        typer.Option(
            "--try", min=0.1, metavar="SECONDS", help="Show how the input is read for this long, and send nothing."
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="With --try: print one JSON object.")] = False


@dataclass(frozen=True)
class LiveOptions:
    """Options of all commands that send what a source reads until they are stopped, or try it."""

    trial: TrialOptions
    rules: RuleOptions
    uplink: UplinkOptions


@dataclass(frozen=True)
class TcpOptions:
    """Options of `device-agent tcp`."""

    listen: Annotated[bool, typer.Option("--listen", help="Listen at ADDRESS for devices that connect.")] = False
    send: Send = None
    whole_lines: Annotated[
        bool,
        typer.Option("--whole-lines", help="The first and the last line of a connection are complete, never cut."),
    ] = False
    silence: Silence = None
    allow: Allow = None


@with_option_groups
def tcp(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT; with --listen PORT or HOST:PORT.")],
    *,
    peer: TcpOptions,
    live: LiveOptions,
) -> None:
    """Send the lines of a device or gateway on the network, until stopped: connect to it, or --listen for devices.

    The format is detected from the first lines, or given by --format. The source connects again by itself. A source
    that listens reads every device that can connect: give an address of one network, or use --allow.

    Example: device-agent tcp gps.local:10110 --device boat

    Example: device-agent tcp --listen 192.168.1.5:5000 --allow 192.168.1.0/24 --device hall
    """
    fields = {
        "address": address, "listen": peer.listen, "send": peer.send, "whole_lines": peer.whole_lines,
        "silence_s": peer.silence, "allow": peer.allow,
    }  # fmt: skip
    source = SourceCommand("tcp", fields, ["tcp", address, *option_words(peer)])
    run_live(source, live, name="tcp" if peer.listen else address.rpartition(":")[0])


@dataclass(frozen=True)
class UdpOptions:
    """Options of `device-agent udp`."""

    group: Annotated[str, typer.Option(metavar="ADDRESS", help="Multicast group to join, like 239.2.1.1.")] = ""
    interface: Annotated[str, typer.Option(help="Interface of the group: its address for IPv4, its name for IPv6.")] = (
        ""
    )
    allow: Allow = None


@with_option_groups
def udp(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to listen: PORT or HOST:PORT.")],
    *,
    peer: UdpOptions,
    live: LiveOptions,
) -> None:
    """Send the lines in datagrams that arrive at a port, until stopped: of any sender, a broadcast or a group.

    Each datagram is complete, and each sender has a format of its own. Anyone who reaches the port can send, also
    under a forged address: use a network that you trust, and --allow.

    Example: device-agent udp 10110 --device boat

    Example: device-agent udp 10110 --group 239.2.1.1 --allow 192.168.1.0/24 --device boat
    """
    fields = {"address": address, "group": peer.group, "interface": peer.interface, "allow": peer.allow}
    run_live(SourceCommand("udp", fields, ["udp", address, *option_words(peer)]), live, name="udp")


@dataclass(frozen=True)
class WebSocketOptions:
    """Options of `device-agent websocket`."""

    send: Send = None
    http_header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Header (repeatable). Every user can see command lines."),
    ] = None
    http_header_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with a header in each line, for secrets.")
    ] = None
    subprotocol: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Subprotocol (repeatable).")] = None
    source_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Authorities that may sign the device's certificate.")
    ] = None
    source_pin: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The device's own certificate; its name does not matter.")
    ] = None
    ping: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time between pings. 0: the device does not answer them.")
    ] = 20.0
    silence: Silence = None
    pieces: Annotated[bool, typer.Option("--stream", help="Messages are pieces of a stream of lines.")] = False


@with_option_groups
def websocket(
    url: Annotated[str, typer.Argument(metavar="URL", help="WebSocket of the device: ws://HOST/PATH or wss://…")],
    *,
    peer: WebSocketOptions,
    live: LiveOptions,
) -> None:
    """Send the messages of a device that is a WebSocket server, until stopped. The source connects again by itself.

    A message is one value or lines, in any format: JSON, line protocol, CSV and others.

    Example: device-agent websocket ws://sensor.local/stream --send '{"subscribe":"all"}' --device sensor

    Example: device-agent websocket wss://plc.local/data --source-pin plc.pem --http-header-file headers --device plc
    """
    fields = {
        "url": url, "send": peer.send, "headers": peer.http_header, "header_file": peer.http_header_file,
        "subprotocols": peer.subprotocol, "ca": peer.source_ca, "pin": peer.source_pin, "ping_s": peer.ping,
        "silence_s": peer.silence, "stream": peer.pieces,
    }  # fmt: skip
    source = SourceCommand("websocket", fields, ["websocket", url, *option_words(peer)])
    run_live(source, live, name=urlsplit(url).hostname or "")


@dataclass(frozen=True)
class GpsdOptions:
    """Options of `device-agent gpsd`."""

    receiver: Annotated[str, typer.Option(metavar="PATH", help="One receiver, like /dev/ttyACM0. Default: all.")] = ""
    silence: Annotated[
        float, typer.Option(metavar="SECONDS", help="Connect again when nothing arrives for this long.")
    ] = 60.0


@with_option_groups
def gpsd(
    address: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Address of gpsd.")] = "127.0.0.1:2947",
    *,
    peer: GpsdOptions,
    live: LiveOptions,
) -> None:
    """Send position, speed, course and satellites of the receivers of gpsd, until stopped.

    Without a position, the time is that of this computer: the clock of the receiver may be wrong.

    Example: device-agent gpsd --device van-7
    """
    fields = {"address": address, "receiver": peer.receiver, "silence_s": peer.silence}
    run_live(SourceCommand("gpsd", fields, ["gpsd", address, *option_words(peer)]), live, name="gps")


@dataclass(frozen=True)
class ProgramOptions:
    """Options of `device-agent command`."""

    interval: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Run it on this schedule: it prints once and ends.")
    ] = None
    directory: Annotated[Path | None, typer.Option(help="Directory in which it runs.", file_okay=False)] = None
    silence: Silence = None


@with_option_groups
def command(
    words: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENTS]", help="Program and its arguments.")],
    *,
    program: ProgramOptions,
    live: LiveOptions,
) -> None:
    """Send the lines that a program writes, until stopped. A program that ends is started again.

    The end of what it writes to standard error is the reason of its failure. It runs without a shell, and does not get
    HUB_TOKEN. A program that writes to a pipe in blocks needs `stdbuf -oL PROGRAM`.

    Example: device-agent command --device radio -- rtl_433 -F json

    Example: device-agent command --interval 60 --device rack -- sh -c 'sensors -j | jq -c .'
    """
    fields = {
        "command": words, "interval_s": program.interval, "directory": program.directory, "silence_s": program.silence,
    }  # fmt: skip
    source = SourceCommand("command", fields, ["command", *option_words(program)], ["--", *words])
    run_live(source, live, name=Path(words[0]).name)


@with_option_groups
def replay(
    file: Annotated[
        Path, typer.Argument(help="Recorded file, also compressed with gzip.", exists=True, dir_okay=False)
    ],
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e6, help="1 is the recorded speed. Default: as fast as possible; live: 1."),
    ] = None,
    replay_as: Annotated[
        Literal["history", "live"],
        typer.Option("--as", help="history keeps the times of the records; live moves them to now."),
    ] = "history",
    loop: Annotated[bool, typer.Option("--loop", help="With --as live: begin again at the end.")] = False,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", help="With --as live: time between records without a time.")
    ] = 1.0,
    *,
    uplink: UplinkOptions,
    options: RuleOptions,
) -> None:
    """Send a log as history or live, and end when the hub has it. Exit code 1 if lines or values were refused.

    The format is detected, or given by --format. As history, a record without a time is refused, and sending a log
    twice stores it twice. Live, the first record is now, and the others keep their distances.

    Example: device-agent replay january.jsonl --device boiler-1

    Example: device-agent replay drive.nmea --as live --speed 10 --loop --device demo
    """
    fields = {"file": file, "speed": speed, "live": replay_as == "live", "loop": loop, "interval_s": interval}
    uplink, settings, source = source_of("replay", fields, uplink, options, name=file.stem, prefix_host=False)
    rejected = stream(uplink, source, lambda agent: agent.collect, is_finite=settings.is_finite)
    counts = source.health.input.counts if source.health.input is not None else None
    if rejected is not None and counts is not None and rejected + counts.refused:
        fail(
            f"{plural(counts.refused, 'line or value was', 'lines or values were')} refused, "
            f"{plural(rejected, 'reading was', 'readings were')} rejected"
        )


COMMANDS = (tcp, udp, websocket, gpsd, command, replay)


def source_of(
    kind: str,
    fields: Mapping[str, Any],
    uplink: UplinkOptions,
    options: RuleOptions,
    *,
    name: str,
    prefix_host: bool = True,
) -> tuple[UplinkOptions, SourceSettings, Source]:
    """Return the complete options, the settings and the source; exit with 2 when they are invalid."""
    uplink, options = with_earlier_format(uplink, options)
    default = f"{socket.gethostname()}-{name}" if prefix_host and name else name
    uplink = completed_options(uplink, default_device=default)
    given = {key: value for key, value in fields.items() if value is not None}
    try:
        # A path, and the rules, have the form of the settings file.
        given |= {"rules": msgspec.to_builtins(options.to_rules(device=uplink.device)), "function": options.function}
        settings = msgspec.convert(given, settings_class(kind), dec_hook=lambda wanted, value: wanted(value))
        return uplink, settings, settings.source(SourceContext(uplink.device))
    except (RulesError, ValueError) as error:
        text, _, place = str(error).partition(" - at `$.")
        fail(f"{place.rstrip('`')}: {text}" if place else text, MISUSE)


class SourceCommand(NamedTuple):
    """A source as a command names it: its kind and settings, and the words around the options of the rules."""

    kind: str
    fields: Mapping[str, Any]
    words: Sequence[str]
    last_words: Sequence[str] = ()

    def text(self, live: LiveOptions, found: Rules) -> str:
        """Return the command that sends what a trial read by these rules, without a token: it is no text to show."""
        uplink = option_words(live.uplink, without=("token", "device"))  # the rules have the device
        words = ["device-agent", *self.words, *uplink]
        return " ".join(filter(None, (shlex.join(words), options_text(found, live.rules), shlex.join(self.last_words))))


def run_live(command: SourceCommand, live: LiveOptions, *, name: str) -> None:
    """Send the readings of a source until stopped, or show how it is read."""
    trial = live.trial
    uplink, settings, source = source_of(command.kind, command.fields, live.uplink, live.rules, name=name)
    if trial.try_s is None:
        stream(uplink, source, lambda agent: agent.collect)
        return
    from device_agent.program import run_until_stopped
    from device_agent.trial import LiveSource, quiet_log, try_source

    assert source.health.input is not None
    typer.echo(f"reading {settings.default_name} for {trial.try_s:g} s …", err=True)
    readable = cast("LiveSource", source)
    try:
        with quiet_log():
            found = run_until_stopped(
                try_source(source.health.input, readable, settings.default_name, seconds=trial.try_s)
            )
    except InputUnreadable as error:
        fail(f"{error}{_ended_hint(str(error))}")
    assert found is not None
    to_copy = command.text(live, found.settings)
    if trial.as_json:
        typer.echo(json.dumps({**found.facts(), "command": to_copy}))
    else:
        table = source_table(
            command.kind, {**command.fields, "device": live.uplink.device, "function": live.rules.function}
        )
        typer.echo(f"{found.text(source=table)}\n\ncommand to copy\n{escaped(to_copy)}")
    if hint := _ended_hint(source.health.error or ""):
        typer.echo(f"{settings.default_name}: {source.health.error}{hint}", err=True)
    raise typer.Exit(FAILED if found.refused else 0)


def _ended_hint(error: str) -> str:
    """Return the next step for a program that ended in order."""
    return "; --interval SECONDS is for a program that prints once and ends" if ENDED in error else ""


def source_table(kind: str, fields: Mapping[str, Any]) -> list[str]:
    """Return the settings of a source, without its rules, as a table of agent.toml."""
    defaults = {found.name: found.default for found in msgspec.structs.fields(settings_class(kind))}
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in fields.items()
        if value is not None and value != defaults.get(name)
    }
    return ["[[source]]", f'kind = "{kind}"', *(f"{name} = {toml_value(value)}" for name, value in given.items())]
