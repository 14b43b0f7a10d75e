"""Commands on /v1/plain: a client declares them, gets them and answers them, in frames that are JSON objects.

docs/plain.md has the frames. Reading a frame is pure; `PlainCommandLink` is the connection to the dispatcher.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct

from hub.ingest.device import CommandInbox, CommandLink
from hub.ingest.input_reader import is_short
from wire import device as messages
from wire import limits
from wire.command import CommandDeclaration, CommandParameter, result_problem
from wire.errors import Code, WireError
from wire.plain import CommandFrame, Recorded, Stored

UNREAD = "this connection does not read (?ack=none), so it gets no commands"

_ID = re.compile(r"[0-9a-f]{16,32}")
_CODE = re.compile(rf"[a-z_]{{1,{limits.MAX_COMMAND_CODE}}}")
_RESULT_FIELDS = ("result", "ok", "value", "error", "message", "rejected")
_LEFT_OUT = "result_left_out"
_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "array": "list",
    "object": "object",
    "null": "null",
}

T = TypeVar("T", bound=Struct)


class PlainDeclaration(NamedTuple):
    """The commands that a client declares. `repeats`: it keeps their ids, and executes none twice."""

    commands: list[CommandDeclaration]
    repeats: bool


def command_content(payload: bytes, *, is_declared: bool) -> dict[str, Any] | WireError | None:
    """Return the object of a frame about commands; None for a frame with readings.

    Such an object has a list `commands`, or a text `result` if the client has declared commands. Before that, a result
    is recognised by the id of a command and a further field of a result. Of one that has a name twice, and of a
    declaration with numbers that are no JSON, what to correct is returned.
    """
    if payload.lstrip()[:1] != b"{" or (b'"commands"' not in payload and b'"result"' not in payload):
        return None
    error = ""
    try:
        if not _is_about_commands(msgspec.json.decode(payload), is_declared=is_declared):
            return None
    except msgspec.DecodeError as problem:
        if not is_short(payload):
            return None
        error = str(problem)
    except (UnicodeError, RecursionError):
        return None
    return _command_content(payload, error, is_declared=is_declared)


def _is_about_commands(content: dict[str, Any], *, is_declared: bool) -> bool:
    if isinstance(content.get("commands"), list):
        return True
    result = content.get("result")
    if not isinstance(result, str):
        return False
    return is_declared or bool(_ID.fullmatch(result) and any(name in content for name in _RESULT_FIELDS[1:]))


def _command_content(payload: bytes, error: str, *, is_declared: bool) -> dict[str, Any] | WireError | None:
    """Return what `command_content` does, also of a frame that the strict decoder refuses with this error.

    This decoder reads NaN and Infinity, too: a device that has executed a command is not refused for its value.
    """
    repeated: list[str] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated.append(Counter(name for name, _ in pairs).most_common(1)[0][0])
        return content

    try:
        content: dict[str, Any] = json.loads(payload, object_pairs_hook=read_object)
    except (ValueError, RecursionError):
        return None
    if not _is_about_commands(content, is_declared=is_declared):
        return None
    if repeated:
        return _bad(f"the name {_shown(repeated[0])} is there twice in one object")
    if error and isinstance(content.get("commands"), list):
        return _bad(f"the commands cannot be read: {error}")
    return content


def read_declaration(content: dict[str, Any]) -> PlainDeclaration:
    """Return what a frame with `commands` declares. Raises WireError with what to correct."""
    others = [name for name in content if name not in ("commands", "repeat")]
    if others:
        raise _bad(
            f"{_listed(others)} beside commands: only repeat can be there. Send readings in a frame of their own"
        )
    repeats = content.get("repeat", False)
    if not isinstance(repeats, bool):
        raise _bad("repeat: expected true or false")
    items = content["commands"]
    if len(items) > limits.MAX_COMMANDS:
        raise _bad(f"{len(items):,} commands: a device declares at most {limits.MAX_COMMANDS}")
    commands = [_read_command(number, item) for number, item in enumerate(items, 1)]
    names = [command.name for command in commands]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise _bad(f"two commands have the same name: {_listed(repeated)}")
    return PlainDeclaration(commands, repeats)


def read_result(content: dict[str, Any], now_ns: int) -> messages.CommandState:
    """Return the state that a frame with `result` reports. Raises WireError with what to correct."""
    id = content["result"]
    if not _ID.fullmatch(id):
        raise _bad("result: expected the id of a command, as the hub sent it")
    others = [name for name in content if name not in _RESULT_FIELDS]
    if others:
        raise _bad(f"{_listed(others)} in a result: its fields are {', '.join(_RESULT_FIELDS)}")
    error, message = content.get("error"), content.get("message", "")
    if not isinstance(message, str) or not (error is None or isinstance(error, str)):
        raise _bad("error, message: expected a text")
    is_ok, is_rejected = content.get("ok", error is None and "value" in content), content.get("rejected", False)
    if not isinstance(is_ok, bool) or not isinstance(is_rejected, bool):
        raise _bad("ok, rejected: expected true or false")
    if is_ok == (error is not None or is_rejected or ("ok" in content and not is_ok)):
        raise _bad('a result has either "ok": true, or "error" with the reason')
    if is_ok:
        return _succeeded(id, message, content.get("value"), now_ns)
    state: Literal["rejected", "failed"] = "rejected" if is_rejected else "failed"
    code = "refused" if is_rejected else "error"
    if error is not None and _CODE.fullmatch(error):
        code = error
    elif error:
        message = f"{error}: {message}" if message else error
    return messages.CommandState(id, state, now_ns, code, message[: limits.MAX_MESSAGE])


def _succeeded(id: str, message: str, value: Any, now_ns: int) -> messages.CommandState:
    problem = result_problem(value)
    if problem:
        return messages.CommandState(id, "succeeded", now_ns, _LEFT_OUT, f"the value is left out: {problem}")
    return messages.CommandState(id, "succeeded", now_ns, "", message[: limits.MAX_MESSAGE], value)


class ReachedInbox(CommandInbox, Protocol):
    """The commands of all devices, where a device can also be connected without getting commands."""

    def unreachable(self, device: str, link: CommandLink, reason: str) -> None:
        """Note that the device is connected, and why it gets no commands; until `disconnected`."""


@dataclass(frozen=True)
class PlainCommands:
    """The commands of all devices, as plain clients use them.

    `is_free` returns False while the device's own agent or a broker is connected, whose commands must stay. `declare`
    makes commands durable, in place of those that the device had, and `declared` returns them.
    `record_unknown` records a result of a command that the hub does not have.
    """

    inbox: ReachedInbox
    is_free: Callable[[str], bool]
    declare: Callable[[str, Sequence[CommandDeclaration]], Awaitable[None]]
    declared: Callable[[str], Sequence[CommandDeclaration]]
    record_unknown: Callable[[str, str], None]
    clock: Callable[[], int]


@dataclass(eq=False, slots=True)
class PlainCommandLink:
    """Commands of one connection. Implements hub.ingest.device.CommandLink.

    `device` is the one that the connection is for, "" if there is none or there are several. `reads`: the client reads
    what `transmit` sends.
    """

    commands: PlainCommands
    transmit: Callable[[CommandFrame], None]
    reads: bool
    device: str = ""
    repeats: bool = False
    is_declared: bool = False

    def send(self, message: messages.Command) -> None:
        """Send a command. Does not wait."""
        self.transmit(CommandFrame(message.name, message.id, message.parameters))

    async def declare(self, content: dict[str, Any], register: Callable[[], Awaitable[object]]) -> Stored:
        """Declare commands, durable on return; `register` makes the device known. Raises WireError: nothing changes."""
        declaration = read_declaration(content)
        if not self.device:
            raise WireError(
                Code.NOT_ALLOWED,
                "the commands of which device? Use a token of one device, or name the device in the first frame: "
                '{"device": "ID"}',
            )
        self._check_free()
        await register()
        await self.commands.declare(self.device, declaration.commands)
        self._check_free()
        self.repeats = declaration.repeats
        self.is_declared = True
        return Stored(len(self.commands.declared(self.device)))

    def _check_free(self) -> None:
        if not self.commands.is_free(self.device):
            raise WireError(
                Code.BUSY,
                f"the own agent of {self.device}, or a broker, is connected: stop it, and declare the commands again",
            )

    def open(self) -> None:
        """Get the commands of the device from now on, in place of any other connection."""
        if self.reads:
            self.commands.inbox.connected(self.device, self)
        else:
            self.commands.inbox.unreachable(self.device, self, UNREAD)

    async def report(self, content: dict[str, Any]) -> Recorded:
        """Record the result of a command; return when it is durable. Raises WireError."""
        if not self.is_declared:
            raise WireError(
                Code.UNEXPECTED_MESSAGE, "a result before the commands: declare them first, after each connection"
            )
        report = read_result(content, self.commands.clock())
        if not await self.commands.inbox.report(self.device, report):
            reason = "".join(f": {text}" for text in (report.code, report.message) if text)
            self.commands.record_unknown(self.device, f"{report.id} {report.state}{reason}")
        return Recorded(report.id)

    def close(self) -> None:
        """Get no commands any more."""
        if self.is_declared:
            self.commands.inbox.disconnected(self.device, self)


def _read_command(number: int, item: object) -> CommandDeclaration:
    if isinstance(item, str):
        item = {"name": item}
    where = f"command {number}"
    if not isinstance(item, dict):
        raise _bad(f'{where}: expected a name, or an object such as {{"name": "stop"}}')
    if isinstance(item.get("name"), str):
        where += f" {_shown(item['name'])}"
    parameters = item.get("parameters", [])
    if not isinstance(parameters, list) or len(parameters) > limits.MAX_PARAMETERS:
        raise _bad(f"{where}: expected a list of at most {limits.MAX_PARAMETERS} parameters")
    read = [_read_parameter(f"{where}, parameter {place}", each) for place, each in enumerate(parameters, 1)]
    command = _converted({**item, "parameters": []}, CommandDeclaration, where)
    try:
        return CommandDeclaration(command.name, command.description, command.confirm, read)
    except ValueError as error:
        raise _bad(f"{where}: {error}") from None


def _read_parameter(where: str, item: object) -> CommandParameter:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, dict):
        raise _bad(f'{where}: expected a name, or an object such as {{"name": "speed", "min": 0, "max": 30}}')
    if isinstance(item.get("name"), str):
        where += f" {_shown(item['name'])}"
    return _converted(item, CommandParameter, where)


def _converted(item: dict[Any, Any], type: type[T], where: str) -> T:
    try:
        return msgspec.convert(item, type)
    except msgspec.ValidationError as error:
        raise _bad(f"{where}: {_in_words(str(error), type)}") from None


def _in_words(problem: str, type: type[Struct]) -> str:
    """Return a problem of the decoder in the words of the frame: the field, and what is expected of it."""
    problem, _, path = problem.partition(" - at `$")
    field = path.strip("`.")
    if problem.startswith("Object contains unknown field"):
        fields = ", ".join(each.encode_name for each in msgspec.structs.fields(type))
        return f"there is no field {problem.rpartition('field ')[2].strip('`')}; its fields are {fields}"
    if problem.startswith("Object missing required field"):
        return f"the field {problem.rpartition('field ')[2].strip('`')} is missing"
    if "matching regex" in problem:
        problem = f"expected 1 to {limits.MAX_COMMAND_NAME} of the characters A-Z a-z 0-9 _ . -"
    elif problem.startswith("Invalid enum value") and field == "type":
        problem = "expected float, integer, boolean or string"
    words = re.sub(r"`([^`]*)`", lambda found: " or ".join(map(_word, found[1].split(" | "))), problem)
    words = words.replace("Expected", "expected", 1)
    return f"{field}: {words}" if field else words


def _word(type: str) -> str:
    return _WORDS.get(type, type)


def _shown(name: str) -> str:
    return msgspec.json.encode(name[: limits.MAX_COMMAND_NAME]).decode()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_shown, names[:5]))


def _bad(problem: str) -> WireError:
    return WireError(Code.BAD_MESSAGE, problem[: limits.MAX_MESSAGE])
