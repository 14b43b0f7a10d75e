"""Actions of the commands of agent.toml: they write a line or a register through a source, or run a program."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from device_agent.operator_commands.handler import CommandFailed, CommandHandler, Rejected
from device_agent.operator_commands.log import CommandOutcome
from device_agent.operator_commands.settings import (
    PLACE,
    ConfiguredCommand,
    ConfiguredSetting,
    arguments_of_program,
    line_of_command,
)
from device_agent.process_group import GROUP_OPTIONS, end_group
from device_agent.source_state import SourceHealth, shorten
from device_agent.sources import Source
from device_agent.sources.command import program_environment, signal_name
from device_agent.sources.connection import SourceUnavailable
from wire.command import CommandDeclaration, ParameterValue
from wire.limits import MAX_MESSAGE

if TYPE_CHECKING:
    from device_agent.sources.modbus.source import ModbusSource

MAX_OUTPUT_BYTES = 1024
"""Bytes at the end of a program's output, and of its errors, that an operator sees."""

READ_BYTES = 4096

MAX_ANSWER = 512
"""Characters of an answer that an operator sees."""


class LinePort(Protocol):
    """A source that can send bytes to its device, and reads its lines."""

    @property
    def health(self) -> SourceHealth:
        """The health of the source, with its input."""

    @property
    def is_open(self) -> bool:
        """True while it can send. `health.on_open` is called when this begins."""

    def write(self, data: bytes) -> None:
        """Send bytes. Raises SourceUnavailable; the message says what was sent."""


def handler_of(command: ConfiguredCommand, sources: Mapping[str, Source]) -> CommandHandler:
    """Return the handler of a command; `sources` are those of its device, by name. The settings are checked."""
    obstacle: Callable[[], str] = str
    if command.program:
        function: Any = partial(run_program_of, command)
    else:
        source: Any = sources[command.source]
        function = partial(write_register if command.line is None else write_line, command, source)
        obstacle = partial(_obstacle_of, command.source, source)
    return CommandHandler(
        command.declaration, _with_any_names(function), command.time_limit_s, obstacle=obstacle, source=command.source
    )


def setting_handler_of(setting: ConfiguredSetting, sources: Mapping[str, Source]) -> CommandHandler:
    """Return the handler of a setting, as `handler_of` that of a command."""
    action = handler_of(setting.action, sources)

    async def call(**parameters: ParameterValue) -> Any:
        (value,) = parameters.values()
        return await action.function(value=value)

    declaration = CommandDeclaration(setting.name, setting.description, parameters=[setting.declaration])
    return action._replace(declaration=declaration, function=call)


def _obstacle_of(name: str, source: LinePort | ModbusSource) -> str:
    return "" if source.is_open else f"{name} is not open"


def _with_any_names(function: Any) -> Any:
    async def call(**parameters: ParameterValue) -> Any:
        return await function(parameters)

    return call


async def write_line(
    command: ConfiguredCommand, writer: LinePort, parameters: Mapping[str, ParameterValue]
) -> CommandOutcome:
    """Send the line of a command, and wait for the answer of the device if the settings have one.

    Without it the device does not confirm the line, and the outcome says so.
    """
    try:
        line = line_of_command(command, parameters)
    except ValueError as error:
        raise Rejected(str(error), code="parameters") from None
    input = writer.health.input
    assert input is not None
    answered: asyncio.Future[CommandOutcome] = asyncio.get_running_loop().create_future()

    def take(raw: bytes) -> bool:
        outcome = _answer(command, raw.decode(errors="replace").strip())
        if outcome is None or answered.done():
            return False
        answered.set_result(outcome)
        return True

    before, input.take_line = input.take_line, take
    try:
        writer.write(line)
        if command.answer:
            return await answered
    except SourceUnavailable as error:
        raise CommandFailed(str(error), code="not_written") from None
    finally:
        input.take_line = before
    return CommandOutcome("succeeded", "not_confirmed", f"sent to {command.source}, which does not confirm it")


def _answer(command: ConfiguredCommand, line: str) -> CommandOutcome | None:
    """Return the outcome if a line of the device is its answer. `refusal` wins over `answer`."""
    if command.refusal and fnmatchcase(line, command.refusal):
        return CommandOutcome("rejected", "refused", shorten(line, MAX_MESSAGE))
    if command.answer and fnmatchcase(line, command.answer):
        return CommandOutcome("succeeded", result=shorten(line, MAX_ANSWER))
    return None


async def write_register(
    command: ConfiguredCommand, source: ModbusSource, parameters: Mapping[str, ParameterValue]
) -> None:
    """Write a value to a register of a slave, which confirms it."""
    from device_agent.sources.modbus.source import WriteNotMade

    value = command.written
    if isinstance(value, str) and (place := PLACE.fullmatch(value)):
        found = parameters.get(place[1])
        if found is None:
            raise Rejected(f"{place[1]}: a value is missing", code="parameters")
        value = found
    slave = command.slave if command.slave is not None else source.slave_of(command.register)
    try:
        await source.write(slave, command.register, value)
    except WriteNotMade as error:
        raise CommandFailed(str(error), code="not_written") from None


async def run_program_of(command: ConfiguredCommand, parameters: Mapping[str, ParameterValue]) -> str | None:
    """Run a program to its end, without a shell, and return the end of what it printed.

    If this is cancelled, the program is ended with all programs that it started.
    """
    try:
        arguments = arguments_of_program(command, parameters)
    except ValueError as error:
        raise Rejected(str(error), code="parameters") from None
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=command.directory,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **GROUP_OPTIONS,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandFailed(f"{arguments[0]!r} cannot be run: {reason}; nothing was done", code="not_started") from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        output, errors, _ = await asyncio.gather(_end_of(process.stdout), _end_of(process.stderr), process.wait())
    finally:
        await end_group(process)
    code = process.returncode
    if code:
        how = f"it was ended by {signal_name(-code)}" if code < 0 else f"it ended with exit code {code}"
        last = errors.rpartition("\n")[2] or output.rpartition("\n")[2]
        raise CommandFailed(f"{how}: {last}" if last else how, code="exit_code")
    return output or None


async def _end_of(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end, and return its last bytes as a text without the white space around it."""
    kept = b""
    while data := await stream.read(READ_BYTES):
        kept = (kept + data)[-MAX_OUTPUT_BYTES:]
    return kept.decode(errors="replace").strip()
