"""Handlers of commands: the declaration that follows from a function's signature, and the call of a function."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from inspect import Parameter
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from device_agent.errors import AgentError
from device_agent.operator_commands.log import CommandOutcome
from device_agent.source_state import shorten
from wire.command import CommandDeclaration, CommandName, ParametersRefused, ParameterValue, result_problem
from wire.limits import MAX_COMMAND_CODE, MAX_COMMAND_NAME, MAX_MESSAGE, MAX_RESULT_DEPTH
from wire.model import MetricType

TIME_LIMIT_S = 30.0
"""Longest time of a handler by default: three times as long as the hub waits for a call."""

MAX_TIME_LIMIT_S = 86_400.0

_TYPES: dict[object, MetricType] = {float: "float", int: "integer", bool: "boolean", str: "string"}

_CODE = re.compile(f"[a-z_]{{1,{MAX_COMMAND_CODE}}}")


class Rejected(Exception):
    """Raise it in a handler that does not do what the command asks, with the reason as a sentence for the operator.

    The command is then rejected, and not failed: the device has not changed. `code` are words in small letters joined
    by `_`.
    """

    def __init__(self, reason: str, *, code: str = "rejected") -> None:
        super().__init__(reason)
        if not _CODE.fullmatch(code):
            raise ValueError(f"{code!r} is no code: write up to {MAX_COMMAND_CODE} letters a to z and _")
        self.code = code


class CommandFailed(Exception):
    """Raise it in a handler for a failure with a `code` of its own. Any other exception has the code `error`."""

    def __init__(self, reason: str, *, code: str) -> None:
        super().__init__(reason)
        self.code = code


class Limits(NamedTuple):
    """The values of a parameter that the device accepts, and its unit and description for the operator.

    `min` and `max` are inclusive. `choices` are the only accepted values if there are any.
    """

    min: float | None = None
    max: float | None = None
    choices: tuple[ParameterValue, ...] = ()
    unit: str = ""
    description: str = ""


class CommandHandler(NamedTuple):
    """A function that executes a command, or sets a setting, which is its only parameter.

    A `concurrent` one may run beside others. It does not run while `obstacle` returns why it cannot, as a sentence,
    such as a port that is not open. `source` is the source of readings whose device it changes, if there is one.
    """

    declaration: CommandDeclaration
    function: Callable[..., Any]
    time_limit_s: float = TIME_LIMIT_S
    concurrent: bool = False
    obstacle: Callable[[], str] = str
    source: str = ""

    def accept(self, parameters: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Return the arguments of the function. Raises ParametersRefused."""
        return self.declaration.accepted(parameters)


def declare(
    function: Callable[..., Any],
    name: str,
    *,
    description: str = "",
    confirm: bool = False,
    limits: Mapping[str, Limits] | None = None,
) -> CommandDeclaration:
    """Return the declaration of a function as a command. Raises AgentError if it cannot be one.

    Each parameter needs a type: float, int, bool, str or a Literal of texts or whole numbers, which are its choices.
    One with a default need not be given, nor one whose type has `| None`.
    """
    _check_name(f"the command {name!r}", name)
    limits = limits or {}
    try:
        types = get_type_hints(function)
    except (NameError, TypeError) as error:
        raise AgentError(f"the types of the parameters of the command {name!r} cannot be read: {error}") from None
    found = inspect.signature(function).parameters
    if unknown := limits.keys() - found.keys():
        raise AgentError(f"the command {name!r} has limits for {min(unknown)!r}, which is no parameter of its function")
    for key in found:
        _check_name(f"the parameter {key!r} of the command {name!r}", key)
    for key, limit in limits.items():
        if not isinstance(limit, Limits):
            raise AgentError(f"the command {name!r} has {limit!r} as the limits of {key}: expected Limits(0, 1)")
    parameters = [_parameter(name, found[key], types.get(key), limits.get(key, Limits())) for key in found]
    return made_declaration({"name": name, "description": description, "confirm": confirm, "parameters": parameters})


def setting_handler(
    function: Callable[..., Any], name: str, limits: Limits, *, time_limit_s: float, source: str = ""
) -> CommandHandler:
    """Return the handler of a setting. Raises AgentError if the function does not have one parameter with a type."""
    _check_name(f"the setting {name!r}", name)
    try:
        types = get_type_hints(function)
    except (NameError, TypeError) as error:
        raise AgentError(f"the type of the setting {name!r} cannot be read: {error}") from None
    parameters = [*inspect.signature(function).parameters.values()]
    if len(parameters) != 1 or parameters[0].default is not Parameter.empty:
        raise AgentError(f"the function of the setting {name!r} needs one parameter, its value, without a default")
    fields = _parameter(name, parameters[0], types.get(parameters[0].name), limits)
    if not fields.pop("required"):
        raise AgentError(f"the setting {name!r} always has a value: its type has no None")
    declaration = made_declaration({"name": name, "parameters": [{**fields, "name": name}]})
    return CommandHandler(declaration, with_values(function), time_limit_s, source=source)


def with_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is called by the names of parameters, and calls this one by their positions."""
    if inspect.iscoroutinefunction(function):

        async def call(**parameters: ParameterValue) -> Any:
            return await function(*parameters.values())

        return call
    return lambda **parameters: function(*parameters.values())


def check_time_limit(name: str, time_limit_s: float) -> None:
    """Raise AgentError if a handler cannot have this time limit."""
    if not 0 < time_limit_s <= MAX_TIME_LIMIT_S:
        raise AgentError(f"{name!r} has a time limit of {time_limit_s} s: up to a day is possible")


def made_declaration(fields: Mapping[str, object]) -> CommandDeclaration:
    """Return a declaration with these fields. Raises AgentError with the reason if they are not valid."""
    try:
        return msgspec.convert(fields, CommandDeclaration)
    except msgspec.ValidationError as error:
        raise AgentError(f"the command {fields.get('name')!r} is not valid: {error}") from None


def _check_name(owner: str, name: str) -> None:
    """Raise AgentError if a command, a setting or a parameter cannot have this name."""
    try:
        msgspec.convert(name, CommandName)
    except msgspec.ValidationError:
        rule = f"write 1 to {MAX_COMMAND_NAME} of the characters A to Z, a to z, 0 to 9, '_', '.' and '-'"
        raise AgentError(f"{owner} has a name that is not valid: {rule}") from None


def _parameter(command: str, found: Parameter, hint: Any, limits: Limits) -> dict[str, object]:
    if found.kind not in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
        raise AgentError(f"the command {command!r} has the parameter {found.name!r} without a fixed name")
    hint, is_optional = _without_none(hint)
    choices = [*limits.choices]
    if get_origin(hint) is Literal:
        values = get_args(hint)
        choices = choices or [*values]
        kinds = {type(value) for value in values}
        hint = kinds.pop() if len(kinds) == 1 else None
    if hint not in _TYPES:
        raise AgentError(
            f"the command {command!r} needs a type of its parameter {found.name!r}: float, int, bool, str or a Literal"
        )
    has_default = found.default is not Parameter.empty
    fields: dict[str, object] = {
        "name": found.name,
        "type": _TYPES[hint],
        "unit": limits.unit,
        "min": limits.min,
        "max": limits.max,
        "choices": choices,
        "required": not (is_optional or has_default),
        "description": limits.description,
    }
    if has_default and found.default is not None:
        fields["default"] = found.default
    return fields


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type without `None`, and whether it had it. A type that has several others is None."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    rest = [part for part in get_args(hint) if part is not NoneType]
    return (rest[0] if len(rest) == 1 else None), True


def refusal_of(handler: CommandHandler | None, name: str, parameters: Mapping[str, object]) -> CommandOutcome | None:
    """Return why a command is rejected before its handler runs; None if it is not."""
    if handler is None:
        return CommandOutcome("rejected", "unknown_command", shorten(f"the device has no command {name}", MAX_MESSAGE))
    try:
        handler.accept(parameters)
    except ParametersRefused as refused:
        return CommandOutcome("rejected", "parameters", shorten(str(refused), MAX_MESSAGE))
    return None


async def execute(
    handler: CommandHandler, parameters: Mapping[str, object], released: Callable[[], None]
) -> CommandOutcome:
    """Run a handler to its end and return the outcome; its exceptions are outcomes, too.

    `released` is called when the function has ended: a thread cannot be cancelled, and may end later than this call.
    """
    try:
        arguments = {**dict.fromkeys(_required(handler.function)), **handler.accept(parameters)}
    except ParametersRefused as refused:
        released()
        return CommandOutcome("rejected", "parameters", shorten(str(refused), MAX_MESSAGE))
    try:
        if inspect.iscoroutinefunction(handler.function):
            try:
                return _success(await handler.function(**arguments))
            finally:
                released()
        return _success(await _call_in_thread(partial(handler.function, **arguments), released))
    except Rejected as rejected:
        return CommandOutcome("rejected", rejected.code, shorten(str(rejected), MAX_MESSAGE))
    except CommandFailed as failed:
        return CommandOutcome("failed", failed.code, shorten(str(failed), MAX_MESSAGE))
    except Exception as error:  # noqa: BLE001 - the operator gets it
        return CommandOutcome("failed", "error", shorten(str(error) or type(error).__name__, MAX_MESSAGE))
    except (SystemExit, KeyboardInterrupt) as ended:
        # From a task they would end the whole agent. A cancellation is passed on.
        return CommandOutcome("failed", "error", shorten(repr(ended), MAX_MESSAGE))


async def run_limited(
    handler: CommandHandler, parameters: Mapping[str, object], released: Callable[[], None]
) -> CommandOutcome:
    """Run a handler until its end or its time limit, and return the outcome. `released` is that of `execute`."""
    work = asyncio.create_task(execute(handler, parameters, released))
    try:
        await asyncio.wait((work,), timeout=handler.time_limit_s)
    finally:
        work.cancel()
    if not work.done():
        text = f"the handler did not end within {handler.time_limit_s:g} s; whether it took effect is not known"
        return CommandOutcome("failed", "time_limit", text)
    if work.cancelled():
        return CommandOutcome("failed", "error", "the handler was cancelled")
    return work.result()


def _success(result: Any) -> CommandOutcome:
    """Return a success with its result; one that the protocol cannot carry is left out, and this is said.

    A handler of agent.toml returns an outcome itself.
    """
    if isinstance(result, CommandOutcome):
        return result
    try:
        if not _is_json_value(result, MAX_RESULT_DEPTH):
            raise TypeError
        value = msgspec.json.decode(msgspec.json.encode(result))
        msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return CommandOutcome("succeeded", "result_left_out", "the result is no JSON value, and is left out")
    problem = result_problem(value)
    if problem:
        return CommandOutcome("succeeded", "result_left_out", f"the result is left out: {problem}")
    return CommandOutcome("succeeded", result=value)


def _is_json_value(value: Any, levels: int) -> bool:
    """Return whether a value is one of JSON, a tuple being a list. Deeper levels than these are not read.

    msgspec alone would encode NaN as null, bytes as base64 and a set as a list.
    """
    if value is None or isinstance(value, str | int) or levels <= 0:
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json_value(part, levels - 1) for name, part in value.items())
    return isinstance(value, list | tuple) and all(_is_json_value(part, levels - 1) for part in value)


def _required(function: Callable[..., Any]) -> list[str]:
    """Return the parameters that a call must have. One that the operator need not give is None then."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_KEYWORD
    ]


async def _call_in_thread(function: Callable[[], Any], released: Callable[[], None]) -> Any:
    """Call a function in a thread of its own, so that one that waits does not stop the agent."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        released()
        if done.done():
            return
        if error is None:
            done.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):  # a future cannot have it
            done.set_exception(error)
        else:
            done.set_exception(RuntimeError(repr(error)))

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - it ends this thread only
            error = raised
        with suppress(RuntimeError):  # the agent has ended
            loop.call_soon_threadsafe(settle, result, error)

    # A daemon: a handler that hangs must not keep the program from ending.
    threading.Thread(target=work, name="command", daemon=True).start()
    return await done
