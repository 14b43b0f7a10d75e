"""The check of agent.toml: every problem of the settings, of the files that they name, of the ports and of the hub."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from agent_client.client import ConnectFailed, connect
from agent_client.connection_check import ask_hub
from agent_client.endpoint import Endpoint, TokenFile, device_url
from device_agent.errors import AgentError
from device_agent.service import TOKEN_VARIABLE, stored_token, tls_of
from device_agent.settings import AgentSettings, AgentSettingsError, SettingsProblem, load_settings, located
from device_agent.toml_lines import KeyPath, key_text
from device_agent.uplink import AGENT_NAME
from wire.text import plural

HUB_SECONDS = 15.0
"""Longest time to wait for the hub: more than a connection takes that works."""

Level = Literal["error", "warning"]

TOKEN_KEY: KeyPath = ("token_file",)

REMEDIES = {
    "not_authenticated": "create a token with `hub token create`",
    "not_allowed": "let the agent use the device's name, or create a token for this name with `hub token create`",
}
"""Next steps of an agent for answers whose remedy is also for people at a page, by the code of the answer."""


class CheckFinding(NamedTuple):
    """A problem of the computer or the hub, at the key that names its cause."""

    key: KeyPath
    text: str
    level: Level = "error"


class CheckReport(NamedTuple):
    """Result of a check. `summary` says what is configured; it is empty if the settings cannot be used."""

    file: Path
    problems: list[SettingsProblem]
    warnings: list[SettingsProblem]
    summary: str

    @property
    def has_errors(self) -> bool:
        """True if there is a problem that is more than a warning."""
        return bool(self.problems)

    def lines(self) -> list[str]:
        """Return the report for people."""
        found = [problem.sentence(self.file) for problem in self.problems]
        warned = [f"{problem.sentence(self.file)} (warning)" for problem in self.warnings]
        last = f"{plural(len(found), 'problem')}; {self.summary}" if found else f"ok: {self.summary}"
        return [*found, *warned, last.removesuffix("; ")]

    def facts(self) -> dict[str, object]:
        """Return the report for programs."""
        return {
            "file": str(self.file),
            "problems": [_facts(problem) for problem in self.problems],
            "warnings": [_facts(problem) for problem in self.warnings],
            "summary": self.summary,
        }


def _facts(problem: SettingsProblem) -> dict[str, object]:
    return {"key": key_text(problem.key), "line": problem.line, "text": problem.text}


def check_file(file: Path, *, connect_hub: bool = True) -> CheckReport:
    """Return the problems of a file, of this computer and, if asked, of the hub."""
    try:
        settings = load_settings(file)
    except AgentSettingsError as error:
        return CheckReport(file, error.problems, [], "")
    findings = list(check_machine(settings))
    summary = f"{plural(len(settings.source), 'source')} of {plural(len(settings.devices), 'device')}"
    if settings.command:
        summary += f", {plural(len(settings.command), 'command')}"
    if settings.setting:
        summary += f", {plural(len(settings.setting), 'setting')}"
    if connect_hub:
        endpoints = _endpoints_of(settings)
        found = None if endpoints is None else asyncio.run(check_hub(settings, endpoints))
        if endpoints is None:
            summary += "; the hub was not asked"
        elif found is None:
            summary += f", and {settings.hub} accepts the agent"
        elif found == _token_missing():
            # Both say that there is no token.
            findings = [finding for finding in findings if finding.key != TOKEN_KEY]
        findings += [] if found is None else [found]
    placed: dict[Level, list[SettingsProblem]] = {"error": [], "warning": []}
    problems = located([(finding.key, finding.text) for finding in findings], file.read_text(encoding="utf-8"))
    for finding, problem in zip(findings, problems, strict=True):
        placed[finding.level].append(problem)
    return CheckReport(file, placed["error"], placed["warning"], summary)


def check_machine(settings: AgentSettings) -> Iterator[CheckFinding]:
    """Yield the problems of the files, the directories and the ports that the settings name."""
    yield from _check_credentials(settings)
    directory = settings.spool_of("x").parent
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield CheckFinding(("spool_directory",), f"{directory} cannot be written: readings could not be kept")
    for number, source in enumerate(settings.source):
        for key, problem in source.problems():
            yield CheckFinding(("source", number, key), problem)
    for number, command in enumerate(settings.command):
        for key, problem in command.problems():
            yield CheckFinding(("command", number, key), problem)
    for number, setting in enumerate(settings.setting):
        for key, problem in setting.problems():
            yield CheckFinding(("setting", number, key), problem)


def _check_credentials(settings: AgentSettings) -> Iterator[CheckFinding]:
    try:
        tokens = [stored_token(settings, device) for device in settings.devices]
    except AgentError as error:
        yield CheckFinding(TOKEN_KEY, str(error))
    else:
        if None in tokens:
            text = f"there is no token: set token_file, or {TOKEN_VARIABLE} in the environment"
            yield CheckFinding(TOKEN_KEY, text, "warning")
        files = (token.permission_problem for token in tokens if isinstance(token, TokenFile))
        for problem in dict.fromkeys(filter(None, files)):
            yield CheckFinding(TOKEN_KEY, problem, "warning")
    try:
        tls_of(settings.tls)
    except AgentError as error:
        yield CheckFinding(("tls",), str(error))


def _endpoints_of(settings: AgentSettings) -> dict[str, Endpoint] | None:
    """Return the hub's endpoint for each device; None if the settings have none, a problem of `check_machine`."""
    try:
        return {
            device: Endpoint(
                device_url(settings.hub),
                stored_token(settings, device),
                settings.wire_format,
                settings.proxy or None,
                tls_of(settings.tls),
                settings.compression,
            )
            for device in settings.devices
        }
    except AgentError:
        return None


async def check_hub(settings: AgentSettings, endpoints: Mapping[str, Endpoint]) -> CheckFinding | None:
    """Return why the hub would not accept a connection or a device; None if it does. Nothing is sent over it."""
    endpoint = next(iter(endpoints.values()))
    try:
        async with asyncio.timeout(HUB_SECONDS):
            connection = await connect(endpoint, name=AGENT_NAME)
            await connection.close()
    except TimeoutError:
        return CheckFinding(("hub",), f"{endpoint.url} does not answer within {HUB_SECONDS:.0f} s")
    except ConnectFailed as failure:
        is_token = failure.ending.status in (401, 403)
        if is_token and endpoint.token is None:
            return _token_missing()
        return CheckFinding(TOKEN_KEY if is_token else ("hub",), failure.ending.reason)
    for device, sources in settings.devices.items():
        endpoint = endpoints[device]
        try:
            answer = await asyncio.to_thread(ask_hub, endpoint, device)
        except OSError as error:
            return CheckFinding(("hub",), f"{settings.hub} does not answer: {error}")
        if answer is not None and answer.code != "ok":
            if answer.code == "not_authenticated" and endpoint.token is None:
                return _token_missing()
            named = settings.source.index(sources[0])
            key: KeyPath = TOKEN_KEY if len(settings.devices) == 1 else ("source", named, "device")
            remedy = REMEDIES.get(answer.code, answer.remedy)
            return CheckFinding(key, msgspec.structs.replace(answer, remedy=remedy).sentence)
    return None


def _token_missing() -> CheckFinding:
    text = f"there is no token, and the hub needs one: set token_file, or {TOKEN_VARIABLE} in the environment"
    return CheckFinding(TOKEN_KEY, text)
