"""The `device-agent` command."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import socket
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from agent_client.option_group import option_words, with_option_groups
from agent_client.rule_options import RuleOptions, options_text
from agent_client.trial import InputUnreadable, try_file
from device_agent import source_commands
from device_agent.catalogue import corrected
from device_agent.command_help import GroupedCommand
from device_agent.errors import FAILED, MISUSE, SpoolError
from device_agent.modbus_options import BusOptions
from device_agent.port_commands import PORT_HELP, PortOptions, hold, is_port_name, list_ports, print_rates
from device_agent.settings import (
    OPTIONS_OVER_FILE,
    AgentSettingsError,
    default_spool,
    device_id_of,
    load_settings,
)
from device_agent.setup_command import setup
from device_agent.sources.host import INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, HostSource
from device_agent.sources.lines import ForeignInput
from device_agent.sources.serial import SerialSource
from device_agent.sources.settings import SourceContext
from device_agent.spool.status import earlier_metrics, read_status
from device_agent.spool.verify import verify_spool
from device_agent.status_file import read_agent_status, status_text
from device_agent.uplink_options import (
    Device,
    Spool,
    UplinkOptions,
    completed_options,
    default_device,
    fail,
    input_of,
    stream,
    with_earlier_format,
)
from formats.report import Trial
from formats.rules import RulesError
from integrity.finding import exit_code
from wire.codec import Format
from wire.text import escaped

app = typer.Typer(
    name="device-agent",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Send the readings of a device to a telemetry hub, and keep them on disk until the hub has them.",
    epilog="""\b
Examples:
  device-agent run                                   this computer's sensors
  device-agent try /dev/ttyUSB0                      how the lines of a sensor are read
  device-agent serial /dev/ttyUSB0 --device kiln     a sensor on a serial port
  device-agent replay log.jsonl --device kiln        a log""",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"telemetry-hub {version('telemetry-hub')}")
        raise typer.Exit


@app.callback()
def options(
    wanted: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all subcommands."""


@app.command(cls=GroupedCommand)
@with_option_groups
def run(
    context: typer.Context,
    uplink: UplinkOptions,
    interval: Annotated[
        float, typer.Option(min=MIN_INTERVAL_SECONDS, help="Seconds between readings.")
    ] = INTERVAL_SECONDS,
    loopback: Annotated[bool, typer.Option("--loopback", help="Also report the loopback interface.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="File with the sources and settings; the options of the hub win over it.")
    ] = None,
    earlier_format: Annotated[
        Format | None, typer.Option("--format", hidden=True, help="Earlier name of --wire-format.")
    ] = None,
) -> None:
    """Send this computer's own sensors until stopped, or with --config the sources in a file.

    The computer's sensors are its processors, memory, disks, networks and temperatures. With --config, SIGHUP loads the
    file again. Exit code 2 if the settings are wrong.

    Example: HUB_TOKEN=… device-agent run --hub https://hub.example --interval 5

    Example: device-agent run --config /etc/telemetry-agent/agent.toml
    """
    if config is not None:
        _run_service(context, config)
        return
    uplink = replace(uplink, wire_format=earlier_format or uplink.wire_format)
    uplink = completed_options(uplink, default_device=socket.gethostname())
    source = HostSource(interval_seconds=interval, include_loopback=loopback)
    stream(uplink, source, lambda agent: agent.send)


@app.command(cls=GroupedCommand)
def check(
    config: Annotated[Path, typer.Option(help="File with the sources and settings.")] = Path("agent.toml"),
    hub: Annotated[bool, typer.Option("--hub/--no-hub", help="Whether to connect to the hub.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a file for `device-agent run --config`, and show every problem at once with its key and line.

    It checks the settings, the token and the other files, that each port exists, and that the hub accepts the token.
    Exit code 1 if there is a problem; a warning alone is none.

    Example: device-agent check --config /etc/telemetry-agent/agent.toml
    """
    from device_agent.check import check_file

    report = check_file(config, connect_hub=hub)
    if as_json:
        typer.echo(json.dumps(report.facts()))
    else:
        for line in report.lines():
            typer.echo(escaped(line))
    raise typer.Exit(FAILED if report.has_errors else 0)


@app.command(cls=GroupedCommand)
@with_option_groups
def serial(
    port: Annotated[str, typer.Argument(help=PORT_HELP)],
    mirror: Annotated[
        str, typer.Option(help="Where a serial monitor reads the same bytes: a TCP port, or the path of a pty.")
    ] = "",
    *,
    line: PortOptions,
    uplink: UplinkOptions,
    options: RuleOptions,
) -> None:
    """Send the lines that a device writes to a serial port, until stopped. The device may be unplugged meanwhile.

    The format is detected from the first lines, or given by --format: JSON, CSV, NMEA 0183, key=value and others.
    A metric keeps the type of earlier runs, unless --type names another one. With --mirror 7001, `nc 127.0.0.1 7001`
    shows the same lines.

    Example: device-agent serial /dev/ttyUSB0 --baud 9600 --device boiler-1

    Example: device-agent serial /dev/ttyUSB0 --mirror 7001 --device boiler-1
    """
    uplink, options = with_earlier_format(uplink, options)
    uplink = completed_options(uplink, default_device=default_device(Path(port)))
    try:
        source = SerialSource(line.settings(port), input_of(options, uplink.device), mirror=mirror)
    except ValueError as error:
        fail(str(error), MISUSE)
    stream(uplink, source, lambda agent: agent.collect)


app.command(cls=GroupedCommand)(setup)
app.command("ports", cls=GroupedCommand)(list_ports)
app.command("hold", cls=GroupedCommand)(hold)


@app.command(cls=GroupedCommand)
@with_option_groups
def modbus(
    port: Annotated[
        str, typer.Argument(metavar="PORT|tcp://HOST|socket://HOST:PORT", help="Bus. Default: that of --map.")
    ] = "",
    baud: Annotated[int | None, typer.Option(min=50, help="Bits per second of a serial bus. Default: 9600.")] = None,
    frame: Annotated[str | None, typer.Option(help="Data bits, parity and stop bits. Default: 8N1.")] = None,
    *,
    bus: BusOptions,
    uplink: UplinkOptions,
) -> None:
    """Poll the Modbus devices (slaves) of one bus, until stopped: RTU on a serial port, Modbus TCP, or RTU over TCP.

    The maps say which registers are polled, and what they mean; the manual of a slave has its registers. A slave that
    does not answer is asked ever more rarely, and `device-agent status` shows it. `device-agent try` shows what the
    registers contain.

    Example: device-agent try /dev/ttyUSB0 --slave 3 --register 0-9

    Example: device-agent modbus /dev/ttyUSB0 --slave 3 --register voltage=0:f32:1:V --device meter

    Example: device-agent modbus tcp://plc.example --map plc.toml --device plant
    """
    try:
        settings = bus.settings(port=port, baud=baud, frame=frame)
    except RulesError as error:
        fail(str(error), MISUSE)
    name = re.sub(r"^\w+://", "", settings.port)
    uplink = completed_options(uplink, default_device=default_device(Path(name)))
    stream(uplink, settings.source(SourceContext(uplink.device)), lambda agent: agent.collect)


@app.command("try", cls=GroupedCommand)
@with_option_groups
def try_input(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="PORT|FILE|-|tcp://HOST", help="Port, file (also compressed), - for standard input, bus."
        ),
    ],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long a port is read. Ctrl-C ends it earlier.")] = 10.0,
    device: Device = "",
    spool: Spool = None,
    find_baud: Annotated[
        bool, typer.Option("--find-baud", help="Try the likely rates, each for --seconds at most.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    *,
    line: PortOptions,
    options: RuleOptions,
    bus: BusOptions,
) -> None:
    """Read a port, a file or standard input as the agent would, and store nothing. No hub is needed.

    The output has the format and why it was chosen, the readings, each refused value with the setting that changes the
    decision, the rules that decided, and the settings to copy. A metric has the type that the device's spool has for
    it, unless --type names another one. Exit code 1 if something was refused.

    With --find-baud, exit code 1 if no rate reads. With --map or --register, the slaves of a Modbus bus are asked once.
    Other sources are tried by their own commands: device-agent tcp, udp, websocket, gpsd or command with --try.

    Example: device-agent try /dev/ttyUSB0 --baud 9600

    Example: device-agent try /dev/ttyUSB0 --find-baud

    Example: device-agent try /dev/ttyUSB0 --baud 9600 --slave 3 --register 0-9
    """
    if bus.is_given or target.startswith("tcp://"):
        _try_bus(bus, target, context, as_json=as_json)
    is_port = is_port_name(target)
    device = device or default_device(Path(target) if is_port else None)
    if find_baud:
        print_rates(line, target, lambda: input_of(options, device), seconds=seconds, as_json=as_json)
    foreign = input_of(options, device)
    earlier = earlier_metrics(spool or default_spool(device))
    types = {metric.name: metric.type for metric in (*earlier, *corrected(earlier, foreign.rules.types))}
    foreign.known_type = lambda _, metric: types.get(metric)
    trial = _read_target(target, foreign, line, seconds)
    words = ["serial", target, *option_words(line)] if is_port else _command_of(target, trial)
    command = f"device-agent {shlex.join(words)} {options_text(trial.settings, options)}"
    _print_trial(trial, target, foreign, command, as_json=as_json)
    raise typer.Exit(FAILED if trial.refused else 0)


def _read_target(target: str, foreign: ForeignInput, line: PortOptions, seconds: float) -> Trial:
    """Return what a port that is read for `seconds`, a file or standard input contains; fail if it cannot be read."""
    is_port = is_port_name(target)
    try:
        if not is_port:
            return try_file(
                target, foreign.rules, foreign.zone, function=foreign.function, known_type=foreign.known_type
            )
        from device_agent.program import run_until_stopped
        from device_agent.trial import quiet_log, try_port

        typer.echo(f"reading {target} for {seconds:g} s …", err=True)
        with quiet_log():
            trial = run_until_stopped(try_port(foreign, line.settings(target), seconds=seconds))
        assert trial is not None
        return trial
    except InputUnreadable as error:
        command = "" if is_port or Path(target).exists() else _trial_on_network(target)
        fail(f"{error}; for a device on the network: {command}" if command else str(error))


def _trial_on_network(target: str) -> str:
    """Return the command that tries a device on the network; empty if the text is no address of one."""
    scheme, separator, address = target.rpartition("://")
    match scheme:
        case "udp":
            words = ["udp", address.rpartition(":")[2]]
        case "ws" | "wss":
            words = ["websocket", target]
        case "tcp":
            words = ["tcp", address]
        case _ if not separator and re.fullmatch(r"[^/\s]+:[0-9]+", target):
            words = ["tcp", target]
        case _:
            return ""
    return shlex.join(["device-agent", *words, "--try", "10"])


def _command_of(file: str, trial: Trial) -> list[str]:
    """Return the command that sends what a file has; standard input may have been lines of a port."""
    if file == "-":
        return ["serial", "PORT"]
    # History needs a time in each record.
    return ["replay", file, *([] if trial.has_times else ["--as", "live"])]


def _print_trial(trial: Trial, target: str, foreign: ForeignInput, command: str, *, as_json: bool) -> None:
    """Print what was read, and the command that reads it."""
    skipped = foreign.counts.skipped
    if as_json:
        typer.echo(json.dumps({"target": target, "skipped": skipped, **trial.facts(), "command": command}))
    else:
        if skipped:
            typer.echo("the first line was skipped: the port may have been opened in the middle of it")
        typer.echo(f"{trial.text()}\n\ncommand to copy\n{escaped(command)}")


for source_command in source_commands.COMMANDS:
    app.command(cls=GroupedCommand)(source_command)


@app.command(cls=GroupedCommand)
def status(
    device: Device = "",
    spool: Spool = None,
    config: Annotated[
        Path | None, typer.Option(help="File of `device-agent run --config`: show all its devices.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --config a list of them.")
    ] = False,
) -> None:
    """Show the contents of a spool, and the connection and the sources of its agent if it runs."""
    if config is None:
        paths = [spool or default_spool(device or device_id_of(socket.gethostname()))]
    else:
        try:
            settings = load_settings(config)
        except AgentSettingsError as error:
            for line in str(error).splitlines():
                typer.echo(f"device-agent: {escaped(line)}", err=True)
            raise typer.Exit(MISUSE) from None
        paths = [settings.spool_of(name) for name in settings.devices if device in ("", name)]
    texts, facts = [], []
    for path in paths:
        try:
            found = read_status(path)
        except SpoolError as error:
            if config is None:
                fail(str(error))
            # The other devices are shown; a device that has never run is no error of theirs.
            texts.append(f"spool    {path}: {escaped(str(error))}")
            facts.append({"path": str(path), "error": str(error)})
            continue
        agent = read_agent_status(path) if found.in_use else None
        texts.append(status_text(found, agent, time.time_ns()))
        facts.append(msgspec.to_builtins({**msgspec.structs.asdict(found), "agent": agent}))
    # In ASCII: a terminal also obeys control characters beyond it, such as U+009B.
    typer.echo(json.dumps(facts if config is not None else facts[0]) if as_json else "\n\n".join(texts))


@app.command(cls=GroupedCommand)
def verify(
    device: Device = "",
    spool: Spool = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Check every row of a spool, while its agent runs or not. Exit code: 0 intact, 1 damaged, 2 not checked.

    Example: device-agent verify --device boiler-1
    """
    findings = verify_spool(spool or default_spool(device or device_id_of(socket.gethostname())))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            state = {True: "intact", False: "damaged", None: "not checked"}[finding.intact]
            typer.echo(f"{finding.file}: {state}: {escaped(finding.what)}")
            if finding.consequence:
                typer.echo(f"  {finding.consequence}\n  next step: {finding.next_step}")
    raise typer.Exit(exit_code(findings))


def _try_bus(bus: BusOptions, port: str, context: typer.Context, *, as_json: bool) -> NoReturn:
    """Ask the slaves of a bus once, and print their registers with their meaning."""
    from device_agent.program import run_until_stopped

    # A bus has other defaults than a sensor that writes lines.
    given = {name: context.params[name] for name in ("baud", "frame") if _is_given(context, name)}
    try:
        settings = bus.settings(port=port, **given)
    except RulesError as error:
        if bus.is_given or not port.startswith("tcp://"):
            fail(str(error), MISUSE)
        fail(f"{port} is a Modbus bus, and {error}; for lines over TCP: {_trial_on_network(port)}", MISUSE)
    from device_agent.sources.modbus.trial import BusTrial

    logging.getLogger("device_agent").setLevel(logging.CRITICAL)  # the report says the same
    try:
        trial = run_until_stopped(BusTrial.of(settings))
    except OSError as error:
        fail(f"{settings.port}: no connection: {error.strerror or error}")
    if trial is None:
        raise typer.Exit(FAILED)
    typer.echo(json.dumps(trial.facts()) if as_json else trial.text())
    raise typer.Exit(FAILED if trial.has_problems else 0)


def _is_given(context: typer.Context, name: str) -> bool:
    return _origin(context, name) == "COMMANDLINE"


def _origin(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name


def main() -> None:
    """The `device-agent` command."""
    app()


def _run_service(context: typer.Context, config: Path) -> None:
    """Run the agents of a file. The program is replaced by one that has not loaded the command line, 10 MB less."""
    arguments = [str(config), json.dumps({name: str(value) for name, value in _given_options(context).items()})]
    if os.name == "posix":
        warnings = [f"-W{option}" for option in sys.warnoptions]
        os.execv(sys.executable, [sys.executable, *warnings, "-m", "device_agent.service", *arguments])
    from device_agent.service import main

    main(arguments)


def _given_options(context: typer.Context) -> dict[str, Any]:
    """Return the settings that are given on the command line or in the environment; they win over the file."""
    given = {
        name: value
        for name, value in context.params.items()
        if _origin(context, name) in ("COMMANDLINE", "ENVIRONMENT")
    }
    given.pop("config")
    if os.environ.get("HUB_TOKEN") == given.get("token"):
        given.pop("token", None)
    wrong = sorted(given.keys() - OPTIONS_OVER_FILE)
    if wrong:
        fail(f"--{wrong[0].replace('_', '-')} does not fit --config: set it in the file", MISUSE)
    return given
