"""The agent as a service: the sources of agent.toml, one agent for each device, supervised and reloaded.

`device-agent run --config FILE` replaces itself by `python -m device_agent.service FILE OPTIONS`, which imports no
command line: a service idles in less than 40 MB.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from agent_client.endpoint import TokenFile, TokenFileError
from agent_client.signals import reloaded_by_signals
from agent_client.tls import ClientTls, TlsFileError, client_tls
from device_agent.agent import Agent
from device_agent.agent_options import AgentOptions
from device_agent.catalogue import corrected
from device_agent.errors import FAILED, MISUSE, AgentError
from device_agent.log import set_up_log
from device_agent.program import RunningSource, run_sources, run_together, run_until_stopped, status_line
from device_agent.settings import (
    AgentSettings,
    AgentSettingsError,
    AgentTlsSettings,
    load_settings,
    token_path,
    with_options,
)
from device_agent.source_delivery import SourceDelivery
from device_agent.sources import Source
from device_agent.sources.settings import SourceSettings
from device_agent.spool import SqliteSpool
from device_agent.spool.status import earlier_metrics
from device_agent.supervision import Supervisor
from wire.text import escaped, plural

TOKEN_VARIABLE = "HUB_TOKEN"
CREDENTIAL = "token"
"""Name of the credential that systemd gives to the service (LoadCredential=token:FILE)."""

_log = logging.getLogger(__name__)


def token_of(settings: AgentSettings) -> str | TokenFile | None:
    """Return the token: of the environment, the file in the settings, or systemd's credential. Raises AgentError."""
    if token := os.environ.get(TOKEN_VARIABLE):
        return token.strip()
    path = settings.token_file
    if path is None:
        if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
            path = Path(directory) / CREDENTIAL
        if path is None or not path.exists():
            return None
    try:
        return TokenFile(path)
    except TokenFileError as error:
        raise AgentError(str(error)) from None


def stored_token(settings: AgentSettings, device: str) -> str | TokenFile | None:
    """Return the token of a device: as `token_of`, or the one that its agent has asked for. Raises AgentError."""
    token, path = token_of(settings), token_path(settings.spool_of(device))
    if token is not None or not path.exists():
        return token
    try:
        return TokenFile(path)
    except TokenFileError as error:
        raise AgentError(str(error)) from None


def device_token(settings: AgentSettings, device: str) -> str | TokenFile:
    """Return the token of a device, or the file for the one that its agent asks for. Raises AgentError.

    Several devices cannot share a `token_file` that is missing: each asks for a token of its own.
    """
    path = settings.token_file
    if path is None or path.exists() or len(settings.devices) > 1 or os.environ.get(TOKEN_VARIABLE):
        token = stored_token(settings, device)
        if token is not None:
            return token
        path = token_path(settings.spool_of(device))
    return TokenFile(path, may_be_missing=True)


def tls_of(settings: AgentTlsSettings) -> ClientTls | None:
    """Return the settings of TLS; None without any. Raises AgentError with the keys of agent.toml."""
    try:
        return client_tls(settings.ca, settings.certificate, settings.key)
    except TlsFileError as error:
        text = str(error).replace("--client-certificate", "tls.certificate").replace("--client-key", "tls.key")
        raise AgentError(text.replace("--ca", "tls.ca")) from None


class DeviceService:
    """The agent of one device and its sources. Raises AgentError."""

    def __init__(
        self,
        settings: AgentSettings,
        device: str,
        sources: Sequence[SourceSettings],
        token: str | TokenFile,
        tls: ClientTls | None,
    ) -> None:
        self.spool = settings.spool_of(device)
        earlier = earlier_metrics(self.spool)
        made = [source.source(settings.context_of(source)) for source in sources]
        self.agent = Agent(
            settings.hub,
            device=device,
            token=token,
            spool=SqliteSpool(self.spool, device=device, max_bytes=settings.spool_bytes),
            metrics=[
                metric
                for source, running in zip(sources, made, strict=True)
                if running.health.input is not None
                for metric in corrected(earlier, running.health.input.rules.types, source.prefix)
            ],
            tags=settings.tags,
            options=AgentOptions(
                settings.wire_format,
                proxy=settings.proxy or None,
                tls=tls,
                compression=settings.compression,
                ask_access=True,
            ),
        )
        self.sources = []
        for source, running in zip(sources, made, strict=True):
            running.health.name = source.name or source.default_name
            running.health.on_open = self.agent.wake_commands
            delivery = SourceDelivery(
                running, self.agent, self.agent.collect, prefix=source.prefix, rules=settings.report
            )
            self.sources.append(RunningSource(delivery, source.is_finite))
        self._add_commands(settings, {source.health.name: source for source in made})

    def _add_commands(self, settings: AgentSettings, sources: Mapping[str, Source]) -> None:
        device = self.agent.device
        commands = [command for command in settings.command if settings.device_of_command(command) == device]
        desired = [setting for setting in settings.setting if settings.device_of_command(setting) == device]
        if commands or desired:
            from device_agent.operator_commands.actions import handler_of, setting_handler_of

            for command in commands:
                self.agent.add_command(handler_of(command, sources))
            for setting in desired:
                self.agent.add_setting(setting_handler_of(setting, sources))

    async def run(self, on_open: Callable[[], None]) -> None:
        """Run until all sources end. Raises AgentError."""
        self.spool.parent.mkdir(parents=True, exist_ok=True)
        await run_sources(self.agent, self.sources, spool=self.spool, on_open=on_open)


class AgentService:
    """The agents of all devices in agent.toml."""

    def __init__(self, settings: AgentSettings) -> None:
        """Make the agents. Raises AgentError."""
        self.settings = settings
        tls = tls_of(settings.tls)
        tokens = {device: device_token(settings, device) for device in settings.devices}
        for problem in {token.permission_problem for token in tokens.values() if isinstance(token, TokenFile)} - {None}:
            _log.warning("%s", problem)
        self.devices = [
            DeviceService(settings, device, sources, tokens[device], tls)
            for device, sources in settings.devices.items()
        ]

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run until all sources of all devices end. `on_ready` is called when every agent is open, or has failed.

        A device whose agent fails leaves the others running; its error is raised at the end.
        """
        opening = set(self.devices)

        def settle(device: DeviceService) -> None:
            if device in opening:
                opening.remove(device)
                if not opening:
                    _release_memory()
                    on_ready()

        for error in await run_together(self._run_device(device, settle) for device in self.devices):
            if error is not None:
                raise error

    async def _run_device(self, device: DeviceService, settle: Callable[[DeviceService], None]) -> Exception | None:
        try:
            await device.run(partial(settle, device))
        except (AgentError, OSError) as error:
            if len(self.devices) > 1:
                settle(device)
                _log.error("the agent of %s ended, the others continue: %s", device.agent.device, error)
            return error
        return None

    def status(self) -> str:
        """Return one line for `systemctl status`."""
        agents = [device.agent for device in self.devices]
        online = sum(agent.state.value == "online" for agent in agents)
        failed = [source.name for agent in agents for source in agent.sources if not source.ok]
        parts = [
            agents[0].state.value if len(agents) == 1 else f"{online} of {plural(len(agents), 'device')} online",
            plural(sum(agent.counts.waiting for agent in agents), "batch waits", "batches wait"),
            f"{sum(agent.counts.acknowledged.readings for agent in agents):,} readings acknowledged",
            f"FAILED: {', '.join(failed)}" if failed else "",
            next((agent.problem for agent in agents if agent.problem), ""),
        ]
        return "; ".join(filter(None, parts))


async def run_service(settings: AgentSettings, load: Callable[[], AgentSettings], *, log: logging.Handler) -> None:
    """Run the service until its sources end, or until cancelled. SIGHUP loads the settings again.

    Settings with problems are logged, and the service continues with those that it has. Other settings replace the
    agents: what they collected is in their spools. Raises AgentError.
    """
    supervisor = Supervisor()
    reload = asyncio.Event()
    service: AgentService | None = AgentService(settings)
    with reloaded_by_signals(reload.set):
        while service is not None:
            running = asyncio.create_task(service.run(supervisor.ready))
            watching = asyncio.create_task(supervisor.watch(service.status))
            try:
                with status_line([device.agent for device in service.devices], log):
                    service = await _replaced(service, load, reload, running, supervisor)
            except asyncio.CancelledError:
                supervisor.stopping()
                raise
            finally:
                watching.cancel()
                running.cancel()
                await asyncio.gather(watching, running, return_exceptions=True)


async def _replaced(
    service: AgentService,
    load: Callable[[], AgentSettings],
    reload: asyncio.Event,
    running: asyncio.Task[None],
    supervisor: Supervisor,
) -> AgentService | None:
    """Return another service as soon as a reload finds other settings; None when this one ends. Raises AgentError."""
    while True:
        asked = asyncio.create_task(reload.wait())
        try:
            await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if running.done():
            running.result()
            return None
        reload.clear()
        supervisor.reloading()
        try:
            settings = await asyncio.to_thread(load)
            if settings != service.settings:
                logging.getLogger().setLevel(settings.log_level.upper())
                replacement = AgentService(settings)
                _log.info("settings reloaded: the agents start again with them")
                return replacement
            _log.info("settings unchanged; files of tokens and certificates are read for each connection")
        except (AgentSettingsError, AgentError) as error:
            for line in str(error).splitlines():
                _log.error("settings not reloaded: %s", line)
        supervisor.ready()


def _release_memory() -> None:
    """Return to the system what the start has used and does not need any more: 3 MB with glibc."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # other systems have no such function
        ctypes.CDLL(None).malloc_trim(0)


def main(arguments: Sequence[str]) -> None:
    """Run a service by the path of its settings and the options that win over them, as a JSON object.

    Exits with 2 when the settings are wrong, and with 1 when an agent fails.
    """
    file, given = Path(arguments[0]), json.loads(arguments[1])

    def load() -> AgentSettings:
        return with_options(load_settings(file), given)

    try:
        settings = load()
    except AgentSettingsError as error:
        _exit(str(error), MISUSE)
    log = set_up_log(settings.log_level)
    try:
        run_until_stopped(run_service(settings, load, log=log))
    except (AgentError, OSError) as error:
        _exit(str(error), FAILED)


def _exit(text: str, status: int) -> NoReturn:
    for line in text.splitlines():
        print(f"device-agent: {escaped(line)}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
