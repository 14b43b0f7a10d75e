"""The `device-agent` command."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NoReturn

import msgspec
import typer

from device_agent.agent import Agent
from device_agent.errors import AgentError, SpoolError
from device_agent.pump import Deliver
from device_agent.sources.host import INTERVAL_SECONDS, HostSource
from device_agent.sources.reading import Source
from device_agent.sources.replay import ReplaySource
from device_agent.sources.serial import SerialSource
from device_agent.spool import SqliteSpool
from device_agent.spool.sqlite import DEFAULT_MAX_BYTES
from device_agent.spool.status import SpoolStatus, read_status
from wire.codec import Format
from wire.limits import MAX_DEVICE_ID
from wire.model import device_id_problem

FAILED = 1
MISUSE = 2

DEFAULT_HUB = "http://127.0.0.1:8600"

MIN_INTERVAL_SECONDS = 0.05
"""A sample of the host's sensors costs some milliseconds of a processor."""

Hub = Annotated[str, typer.Option(envvar="HUB_URL", help="The hub, for example https://hub.example:8600.")]
Device = Annotated[str, typer.Option(help="The device's id. Without it: made from this computer's name.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="HUB_TOKEN", show_envvar=True, help="Better not given here, where every user can see it."),
]
TokenFile = Annotated[Path | None, typer.Option(help="A file that holds the token.", dir_okay=False)]
Spool = Annotated[Path | None, typer.Option(help="Where readings are kept until the hub has them.")]
SpoolBytes = Annotated[int, typer.Option(min=1 << 16, help="When it holds more, the oldest readings leave it.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE, told to the hub (repeatable).")]
Encoding = Annotated[Format, typer.Option("--format", help="How readings travel.")]
Proxy = Annotated[str | None, typer.Option(help="URL of an HTTP or SOCKS proxy. Without it none is used.")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option(help="From how serious on to log, to standard error.")
]

app = typer.Typer(
    name="device-agent",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Sends a device's readings to a telemetry hub, and keeps them on disk until the hub has them.",
    epilog="Examples: `device-agent run` for this computer's sensors; `device-agent serial /dev/ttyUSB0 --device kiln`"
    " for a sensor that writes a JSON object a line; `device-agent replay log.jsonl --device kiln` for a log.",
)


class Common(NamedTuple):
    """What the options that all three sources share come to."""

    hub: str
    device: str
    token: str | None
    spool: Path
    spool_bytes: int
    tags: dict[str, str]
    format: Format
    proxy: str | None

    def agent(self, *, when_full: Literal["drop", "wait"] = "drop") -> Agent:
        """The agent. Raises AgentError for what cannot be."""
        return Agent(
            self.hub,
            device=self.device,
            token=self.token,
            spool=SqliteSpool(self.spool, device=self.device, max_bytes=self.spool_bytes),
            tags=self.tags,
            format=self.format,
            when_full=when_full,
            proxy=self.proxy,
        )


@app.callback()
def options(
    wanted: Annotated[
        bool, typer.Option("--version", callback=lambda wanted: _say_version(wanted), is_eager=True, help="Say it.")
    ] = False,
) -> None:
    """Options of all subcommands."""


@app.command()
def run(
    hub: Hub = DEFAULT_HUB,
    device: Device = "",
    token: Token = None,
    token_file: TokenFile = None,
    spool: Spool = None,
    spool_bytes: SpoolBytes = DEFAULT_MAX_BYTES,
    tags: Tags = None,
    encoding: Encoding = "msgpack",
    proxy: Proxy = None,
    log_level: LogLevel = "info",
    interval: Annotated[
        float, typer.Option(min=MIN_INTERVAL_SECONDS, help="Seconds between readings.")
    ] = INTERVAL_SECONDS,
    loopback: Annotated[bool, typer.Option("--loopback", help="Report the loopback interface, too.")] = False,
) -> None:
    """Send this computer's own sensors until stopped: processors, memory, disks, networks, temperatures.

    Example: HUB_TOKEN=… device-agent run --hub https://hub.example --interval 5
    """
    name = device or _id_of(socket.gethostname())
    common = _common(hub, name, token, token_file, spool, spool_bytes, tags, encoding, proxy)
    source = HostSource(interval_seconds=interval, include_loopback=loopback)
    _stream(common, log_level, lambda agent: (source, agent.send))


@app.command()
def serial(
    port: Annotated[str, typer.Argument(help="The port, best by its lasting name under /dev/serial/by-id.")],
    baud: Annotated[int, typer.Option(min=1, help="Bits a second.")] = 115_200,
    dtr: Annotated[bool, typer.Option("--dtr/--no-dtr", help="--no-dtr spares an Arduino its reset.")] = True,
    hub: Hub = DEFAULT_HUB,
    device: Device = "",
    token: Token = None,
    token_file: TokenFile = None,
    spool: Spool = None,
    spool_bytes: SpoolBytes = DEFAULT_MAX_BYTES,
    tags: Tags = None,
    encoding: Encoding = "msgpack",
    proxy: Proxy = None,
    log_level: LogLevel = "info",
) -> None:
    """Send what a device writes to a serial port, one JSON object a line, until stopped. Unplugging it is no harm.

    Example: device-agent serial /dev/ttyUSB0 --baud 9600 --device boiler-1
    """
    name = device or _id_of(f"{socket.gethostname()}-{Path(port).name}")
    common = _common(hub, name, token, token_file, spool, spool_bytes, tags, encoding, proxy)
    source = SerialSource(port, baud=baud, dtr=dtr)
    _stream(common, log_level, lambda agent: (source, agent.collect))


@app.command()
def replay(
    file: Annotated[
        Path, typer.Argument(help="One JSON object a line, with a field time.", exists=True, dir_okay=False)
    ],
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="1 is as fast as it was recorded. Without it: as fast as it goes.")
    ] = None,
    hub: Hub = DEFAULT_HUB,
    device: Device = "",
    token: Token = None,
    token_file: TokenFile = None,
    spool: Spool = None,
    spool_bytes: SpoolBytes = DEFAULT_MAX_BYTES,
    tags: Tags = None,
    encoding: Encoding = "msgpack",
    proxy: Proxy = None,
    log_level: LogLevel = "info",
) -> None:
    """Send a log as history, and end when the hub has it. Exit code 1 when there were lines that are not readings.

    A time is nanoseconds since 1970, or text like 2026-01-31T12:00:00Z. Sending a log twice stores it twice.
    Example: device-agent replay january.jsonl --device boiler-1
    """
    name = device or _id_of(file.stem)
    common = _common(hub, name, token, token_file, spool, spool_bytes, tags, encoding, proxy)
    source = ReplaySource(file, speed=speed)
    not_taken = _stream(
        common,
        log_level,
        lambda agent: (source, partial(agent.collect, historical=True)),
        is_finite=True,
    )
    if not_taken is not None and not_taken + source.bad_lines:
        _fail(f"{source.bad_lines} lines are not readings, {not_taken} readings were not taken")


@app.command()
def status(
    device: Device = "",
    spool: Spool = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what a spool holds, whether or not its agent runs."""
    path = spool or _default_spool(device or _id_of(socket.gethostname()))
    try:
        found = read_status(path)
    except SpoolError as error:
        _fail(str(error))
    typer.echo(msgspec.json.encode(found).decode() if as_json else _as_text(found))


def main() -> None:
    """The `device-agent` command."""
    app()


def _stream(
    common: Common, log_level: str, make: Callable[[Agent], tuple[Source, Deliver]], *, is_finite: bool = False
) -> int | None:
    """Runs an agent with a source; exits with 1 or 2 where it cannot. None: it was stopped by a signal."""
    # structlog and rich take a third of the time to start; asking for help or a status needs neither.
    from device_agent.log import set_up_log
    from device_agent.running import run_source, run_until_stopped

    log = set_up_log(log_level)

    async def work() -> int:
        agent = common.agent(when_full="wait" if is_finite else "drop")
        source, deliver = make(agent)
        return await run_source(agent, source, deliver, drain=is_finite, log=log)

    try:
        common.spool.parent.mkdir(parents=True, exist_ok=True)
        return run_until_stopped(work())
    except (AgentError, OSError) as error:
        _fail(str(error))


def _common(
    hub: str,
    device: str,
    token: str | None,
    token_file: Path | None,
    spool: Path | None,
    spool_bytes: int,
    tags: list[str] | None,
    encoding: Format,
    proxy: str | None,
) -> Common:
    try:
        if token_file is not None:
            token = token_file.read_text().strip()
        if problem := device_id_problem(device):
            raise AgentError(problem)
        common = Common(
            hub,
            device,
            token or None,
            spool or _default_spool(device),
            spool_bytes,
            dict(_tag(text) for text in tags or []),
            encoding,
            proxy,
        )
        common.agent()  # refuses what cannot be, while it is still a question of how the command was typed
    except (AgentError, OSError, UnicodeError) as error:
        _misuse(str(error))
    return common


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise AgentError(f"a tag is KEY=VALUE, not {text!r}")
    return key, value


def _id_of(name: str) -> str:
    """A device's id from what something is called."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:MAX_DEVICE_ID] or "device"


def _default_spool(device: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "telemetry-hub" / f"{device}.spool"


def _as_text(found: SpoolStatus) -> str:
    return "\n".join(
        f"{name:<8} {value}"
        for name, value in (
            ("spool", f"{found.path} ({found.file_bytes:,} bytes)"),
            ("device", found.device),
            ("epoch", found.epoch),
            ("agent", "running" if found.in_use else "not running"),
            ("waiting", f"{found.waiting:,} batches, {found.size_bytes:,} bytes"),
            ("lost", f"{found.lost:,} batches that the hub has not been told of yet"),
            ("next", found.next_seq),
        )
    )


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"telemetry-hub {version('telemetry-hub')}")
        raise typer.Exit


def _fail(message: str) -> NoReturn:
    typer.echo(f"device-agent: {message}", err=True)
    raise typer.Exit(FAILED)


def _misuse(message: str) -> NoReturn:
    typer.echo(f"device-agent: {message}", err=True)
    raise typer.Exit(MISUSE)
