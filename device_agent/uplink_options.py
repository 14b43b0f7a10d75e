"""Options of the commands that send readings, and the run of an agent with one source."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from agent_client.endpoint import TokenFile, TokenFileError
from agent_client.rule_files import zone_of
from agent_client.rule_options import RuleOptions
from agent_client.tls import (
    CA_HELP,
    CA_VARIABLE,
    CERTIFICATE_HELP,
    CERTIFICATE_VARIABLE,
    KEY_HELP,
    KEY_VARIABLE,
    ClientTls,
    TlsFileError,
    client_tls,
)
from device_agent.agent import Agent
from device_agent.agent_options import AgentOptions
from device_agent.catalogue import corrected
from device_agent.errors import FAILED, MISUSE, AgentError
from device_agent.log import set_up_log
from device_agent.settings import DEFAULT_HUB, MIN_SPOOL_BYTES, default_spool, device_id_of, token_path
from device_agent.sources import Source
from device_agent.sources.lines import ForeignInput
from device_agent.spool import SqliteSpool
from device_agent.spool.durable import DEFAULT_MAX_BYTES
from device_agent.spool.status import earlier_metrics
from formats.rules import RulesError
from wire.codec import Format
from wire.model import Metric, device_id_problem
from wire.text import escaped

if TYPE_CHECKING:
    from device_agent.source_delivery import Deliver

Device = Annotated[str, typer.Option(help="Device id. Default: made from the name of this computer.")]
Spool = Annotated[Path | None, typer.Option(help="File that keeps readings until the hub has them.")]


@dataclass(frozen=True)
class UplinkOptions:
    """Options of all commands that send readings."""

    hub: Annotated[str, typer.Option(envvar="HUB_URL", help="Hub, for example https://hub.example:8600.")] = DEFAULT_HUB
    device: Device = ""
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HUB_TOKEN", show_envvar=True, help="Token. Prefer HUB_TOKEN: every user can see command lines."
        ),
    ] = None
    token_file: Annotated[Path | None, typer.Option(help="File that contains the token.", dir_okay=False)] = None
    ca: Annotated[Path | None, typer.Option(envvar=CA_VARIABLE, help=CA_HELP)] = None
    client_certificate: Annotated[Path | None, typer.Option(envvar=CERTIFICATE_VARIABLE, help=CERTIFICATE_HELP)] = None
    client_key: Annotated[Path | None, typer.Option(envvar=KEY_VARIABLE, help=KEY_HELP)] = None
    spool: Spool = None
    spool_bytes: Annotated[
        int, typer.Option(min=MIN_SPOOL_BYTES, help="Size of the spool; above it the oldest readings are lost.")
    ] = DEFAULT_MAX_BYTES
    tags: Annotated[list[str] | None, typer.Option("--tag", help="KEY=VALUE, sent to the hub (repeatable).")] = None
    wire_format: Annotated[
        Format, typer.Option("--wire-format", help="Encoding of the readings on their way to the hub.")
    ] = "msgpack"
    proxy: Annotated[str | None, typer.Option(help="URL of an HTTP or SOCKS proxy. Default: none.")] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Least level of log lines on standard error.")
    ] = "info"

    def agent(self, *, when_full: Literal["drop", "wait"] = "drop", metrics: Sequence[Metric] = ()) -> Agent:
        """Return the agent for complete options, which declares these metrics. Raises AgentError for invalid ones."""
        assert self.spool is not None
        try:
            tls = client_tls(self.ca, self.client_certificate, self.client_key)
            return self._agent(tls, when_full, metrics)
        except (TlsFileError, TokenFileError) as error:
            raise AgentError(str(error)) from None

    def _agent(self, tls: ClientTls | None, when_full: Literal["drop", "wait"], metrics: Sequence[Metric]) -> Agent:
        assert self.spool is not None
        return Agent(
            self.hub,
            device=self.device,
            token=self.token or TokenFile(self.token_file or token_path(self.spool), may_be_missing=True),
            spool=SqliteSpool(self.spool, device=self.device, max_bytes=self.spool_bytes),
            metrics=metrics,
            tags=dict(_tag(text) for text in self.tags or []),
            options=AgentOptions(self.wire_format, when_full=when_full, proxy=self.proxy, tls=tls, ask_access=True),
        )


def stream(
    uplink: UplinkOptions, source: Source, deliver_to: Callable[[Agent], Deliver], *, is_finite: bool = False
) -> int | None:
    """Run an agent with a source; return how many readings were rejected, None if a signal stopped it.

    Exits with 1 when it fails.
    """
    from device_agent.program import run_source, run_until_stopped

    log = set_up_log(uplink.log_level)

    async def work() -> int:
        assert uplink.spool is not None
        foreign = source.health.input
        metrics = [] if foreign is None else corrected(earlier_metrics(uplink.spool), foreign.rules.types)
        agent = uplink.agent(when_full="wait" if is_finite else "drop", metrics=metrics)
        return await run_source(agent, source, deliver_to(agent), spool=uplink.spool, is_finite=is_finite, log=log)

    try:
        assert uplink.spool is not None
        uplink.spool.parent.mkdir(parents=True, exist_ok=True)
        return run_until_stopped(work())
    except (AgentError, OSError) as error:
        fail(str(error))


def completed_options(options: UplinkOptions, *, default_device: str) -> UplinkOptions:
    """Return the options with the device, the token and the spool filled in; exit with 2 when they are invalid."""
    device = options.device or device_id_of(default_device)
    try:
        token = options.token
        if options.token_file is not None:
            # A file that is missing gets the token that the agent asks for.
            token = options.token_file.read_text().strip() if options.token_file.exists() else None
        if problem := device_id_problem(device):
            raise AgentError(problem)
        completed = replace(options, device=device, token=token or None, spool=options.spool or default_spool(device))
        completed.agent()  # raises for the rest of the invalid options
    except (AgentError, OSError, UnicodeError) as error:
        fail(str(error), MISUSE)
    return completed


def with_earlier_format(uplink: UplinkOptions, options: RuleOptions) -> tuple[UplinkOptions, RuleOptions]:
    """Return the options; `--format msgpack` is the encoding on the way to the hub, as in earlier versions."""
    if options.format != "msgpack":
        return uplink, options
    return replace(uplink, wire_format="msgpack"), replace(options, format=None)


def input_of(options: RuleOptions, device: str) -> ForeignInput:
    """Return what a source reads by these options; exit with 2 when they are invalid."""
    try:
        rules = options.to_rules(device=device)
        return ForeignInput(rules, zone_of(rules.zone), options.load_function())
    except RulesError as error:
        fail(str(error), MISUSE)


def default_device(port: Path | None) -> str:
    """Return the device id of a port, made from the name of this computer and its own name."""
    return device_id_of(socket.gethostname() if port is None else f"{socket.gethostname()}-{port.name}")


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise AgentError(f"{text!r} is not a tag; write KEY=VALUE")
    return key, value


def fail(message: str, status: int = FAILED) -> NoReturn:
    typer.echo(f"device-agent: {escaped(message)}", err=True)
    raise typer.Exit(status)
