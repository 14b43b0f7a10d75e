"""`device-agent setup`: ask the hub for the token of a device, before its agent runs."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agent_client.endpoint import AddressError, Endpoint, TokenFile, TokenFileError, device_url
from agent_client.option_group import with_option_groups
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
from device_agent.access import AccessRequester
from device_agent.errors import MISUSE, AgentError
from device_agent.log import set_up_log
from device_agent.settings import (
    DEFAULT_HUB,
    AgentSettings,
    AgentSettingsError,
    default_spool,
    device_id_of,
    load_settings,
    token_path,
)
from device_agent.uplink import AGENT_NAME
from device_agent.uplink_options import Device, fail
from wire.model import device_id_problem


@dataclass(frozen=True)
class SetupOptions:
    """Options of `device-agent setup`."""

    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="agent.toml: its hub, its devices and its token_file.")
    ] = None
    hub: Annotated[str, typer.Option(envvar="HUB_URL", help="Hub, for example https://hub.example:8600.")] = DEFAULT_HUB
    device: Device = ""
    token_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File for the token. Default: beside the spool of the device.")
    ] = None
    ca: Annotated[Path | None, typer.Option(envvar=CA_VARIABLE, help=CA_HELP)] = None
    client_certificate: Annotated[Path | None, typer.Option(envvar=CERTIFICATE_VARIABLE, help=CERTIFICATE_HELP)] = None
    client_key: Annotated[Path | None, typer.Option(envvar=KEY_VARIABLE, help=KEY_HELP)] = None


@with_option_groups
def setup(*, options: SetupOptions) -> None:
    """Ask the hub for the token of a device, and store it. Prints a code: an operator compares it, and approves.

    A file that has a token stays as it is: delete it to ask for another one. The device keeps its history. The agent
    asks by itself, too, when it starts without a token.

    Example: device-agent setup --hub https://hub.example --device boiler-1
    """
    from device_agent.program import run_until_stopped

    set_up_log("info")
    try:
        requesters = _requesters(options)
    except (AgentError, AgentSettingsError, AddressError, TokenFileError, TlsFileError) as error:
        fail(str(error), MISUSE)
    for requester in requesters:
        if requester.file.token is not None:
            typer.echo(f"{requester.device}: {requester.file.path} contains a token")
            continue
        reason = run_until_stopped(_answered(requester))
        if reason is None:
            fail("stopped; nothing was stored")
        if reason:
            fail(reason)
        typer.echo(f"{requester.device}: the token is in {requester.file.path}")


async def _answered(requester: AccessRequester) -> str:
    """Return why there is no token; "" if there is one."""
    return await requester.obtain() or ""


def _requesters(options: SetupOptions) -> list[AccessRequester]:
    """Return the request of each device. Raises what an invalid option causes."""
    if options.config is None:
        device = options.device or device_id_of(socket.gethostname())
        tls = client_tls(options.ca, options.client_certificate, options.client_key)
        return [_requester(options.hub, device, options.token_file or token_path(default_spool(device)), tls)]
    settings = load_settings(options.config)
    tls = client_tls(settings.tls.ca, settings.tls.certificate, settings.tls.key)
    named = [device for device in settings.devices if options.device in ("", device)]
    if not named:
        raise AgentError(f"{options.config} has no device {options.device!r}")
    return [_requester(settings.hub, device, _file_of(options, settings, device), tls) for device in named]


def _file_of(options: SetupOptions, settings: AgentSettings, device: str) -> Path:
    """Return the file for the token of a device. Several devices have a file each."""
    if options.token_file is not None:
        return options.token_file
    if settings.token_file is not None and len(settings.devices) == 1:
        return settings.token_file
    return token_path(settings.spool_of(device))


def _requester(hub: str, device: str, file: Path, tls: ClientTls | None) -> AccessRequester:
    if problem := device_id_problem(device):
        raise AgentError(problem)
    return AccessRequester(Endpoint(device_url(hub), tls=tls), TokenFile(file, may_be_missing=True), device, AGENT_NAME)
