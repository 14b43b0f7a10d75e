"""Handlers: the declaration of a function, and what its call becomes."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import pytest

from device_agent.errors import AgentError
from device_agent.operator_commands.handler import (
    CommandFailed,
    CommandHandler,
    Limits,
    Rejected,
    declare,
    execute,
    refusal_of,
    setting_handler,
)
from device_agent.operator_commands.log import CommandOutcome
from wire.command import CommandDeclaration, CommandParameter


def handler_of(function: Callable[..., Any], **options: Any) -> CommandHandler:
    return CommandHandler(declare(function, "move", **options), function)


async def outcome_of(function: Callable[..., Any], parameters: Mapping[str, object], **options: Any) -> CommandOutcome:
    released = asyncio.Event()
    outcome = await execute(handler_of(function, **options), parameters, released.set)
    assert released.is_set()
    return outcome


def move(
    speed: float, steps: int = 3, mode: Literal["slow", "fast"] = "slow", note: str | None = None, *, dry: bool = False
) -> None:
    """Do nothing."""


def test_a_signature_is_a_declaration() -> None:
    """Types, defaults, choices and what must be given follow from the function, the rest from the decorator."""
    limits = {"speed": Limits(0, 30, unit="m/s", description="over ground"), "steps": Limits(choices=(3, 5))}
    assert declare(move, "move", description="Move", confirm=True, limits=limits) == CommandDeclaration(
        "move",
        "Move",
        True,
        [
            CommandParameter("speed", unit="m/s", min=0, max=30, description="over ground"),
            CommandParameter("steps", "integer", choices=[3, 5], required=False, default=3),
            CommandParameter("mode", "string", choices=["slow", "fast"], required=False, default="slow"),
            CommandParameter("note", "string", required=False),
            CommandParameter("dry", "boolean", required=False, default=False),
        ],
    )


def without_type(speed) -> None:  # type: ignore[no-untyped-def]
    """Do nothing."""


def with_list(speed: list[int]) -> None:
    """Do nothing."""


def with_union(speed: int | str) -> None:
    """Do nothing."""


def with_any_names(**speeds: float) -> None:
    """Do nothing."""


def with_accent(größe: float) -> None:
    """Do nothing."""


def with_mixed_choices(mode: Literal["slow", 1]) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (without_type, {}, "needs a type of its parameter 'speed'"),
        (with_list, {}, "needs a type of its parameter 'speed'"),
        (with_union, {}, "needs a type of its parameter 'speed'"),
        (with_mixed_choices, {}, "needs a type of its parameter 'mode'"),
        (with_any_names, {}, "'speeds' without a fixed name"),
        (move, {"limits": {"sped": Limits()}}, "limits for 'sped', which is no parameter"),
        (move, {"limits": {"speed": (0, 1)}}, r"\(0, 1\) as the limits of speed: expected Limits\(0, 1\)"),
        (with_accent, {}, "has a name that is not valid: write 1 to 64"),
        (move, {"limits": {"speed": Limits(3, 1)}}, "min of 3 above its max of 1"),
        (move, {"limits": {"note": Limits(0)}}, "has no min and max"),
        (move, {"limits": {"steps": Limits(5, 9)}}, "3 is below 5"),
        (move, {"description": "x" * 300}, "length <= 256"),
    ],
)
def test_a_function_that_cannot_be_declared(function: Callable[..., Any], options: Any, problem: str) -> None:
    """The error names the command and what is wrong, when the program starts."""
    with pytest.raises(AgentError, match=f"the command 'move'.*{problem}"):
        declare(function, "move", **options)


@pytest.mark.parametrize("name", ["c 2", "", "x" * 65, "größe", "a\n"])
def test_a_name_that_is_not_valid_is_refused_with_the_characters_that_are(name: str) -> None:
    """For commands and for settings."""
    rule = "has a name that is not valid: write 1 to 64 of the characters A to Z, a to z, 0 to 9, '_', '.' and '-'"
    with pytest.raises(AgentError) as command:
        declare(move, name)
    assert str(command.value) == f"the command {name!r} {rule}"
    with pytest.raises(AgentError) as setting:
        setting_handler(without_type, name, Limits(), time_limit_s=1)
    assert str(setting.value) == f"the setting {name!r} {rule}"


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, "speed: a value is missing"),
        ({"speed": 31}, "speed: 31 m/s is above 30"),
        ({"speed": "3"}, 'speed: "3" is not of the type float'),
        ({"speed": 3, "mode": "mad"}, 'mode: "mad" is none of "slow", "fast"'),
        ({"speed": 3, "spin": 1}, '"spin" is no parameter of move'),
    ],
)
async def test_parameters_are_checked_before_the_handler_runs(parameters: dict[str, object], problem: str) -> None:
    """It is rejected with the code `parameters`, when it arrives and again when it starts."""
    limits = {"speed": Limits(0, 30, unit="m/s")}
    outcome = await outcome_of(move, parameters, limits=limits)
    assert (outcome.state, outcome.code) == ("rejected", "parameters")
    assert problem in outcome.message
    assert refusal_of(handler_of(move, limits=limits), "move", parameters) == outcome


def test_an_undeclared_command_is_rejected() -> None:
    """The message names it."""
    outcome = refusal_of(None, "fly", {})
    assert outcome is not None
    assert (outcome.state, outcome.code) == ("rejected", "unknown_command")
    assert "fly" in outcome.message


async def test_both_kinds_of_functions_get_checked_arguments() -> None:
    """An asynchronous one runs in the event loop, any other in a thread; a whole number becomes a float."""
    threads: list[bool] = []

    def arguments(speed: float, note: str | None, steps: int = 3) -> list[object]:
        threads.append(threading.current_thread() is threading.main_thread())
        return [speed, note, steps]

    async def later(speed: float, note: str | None, steps: int = 3) -> list[object]:
        return arguments(speed, note, steps)

    for function in (arguments, later):
        outcome = await outcome_of(function, {"speed": 3})
        assert outcome == CommandOutcome("succeeded", result=[3.0, None, 3])
        assert isinstance(outcome.result[0], float)
    assert threads == [False, True]


def raising(error: BaseException) -> Callable[..., Any]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("the motor is hot"), CommandOutcome("failed", "error", "the motor is hot")),
        (ValueError(), CommandOutcome("failed", "error", "ValueError")),
        (StopIteration(), CommandOutcome("failed", "error", "StopIteration()")),
        (SystemExit(1), CommandOutcome("failed", "error", "SystemExit(1)")),
        (Rejected("the lid is open"), CommandOutcome("rejected", "rejected", "the lid is open")),
        (Rejected("the lid is open", code="lid_open"), CommandOutcome("rejected", "lid_open", "the lid is open")),
        (CommandFailed("no answer", code="no_answer"), CommandOutcome("failed", "no_answer", "no answer")),
        (ValueError("\x1b[31m" + "x" * 600), CommandOutcome("failed", "error", "�[31m" + "x" * 506 + "…")),
    ],
)
async def test_an_exception_is_an_outcome(error: BaseException, outcome: CommandOutcome) -> None:
    """`Rejected` is a refusal, any other one a failure with its sentence."""
    assert await outcome_of(raising(error), {}) == outcome


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_an_exit_in_a_coroutine_is_a_failure(error: BaseException) -> None:
    """It ends the handler, as in a thread, and not the agent."""

    async def leave() -> None:
        raise error

    assert await outcome_of(leave, {}) == CommandOutcome("failed", "error", repr(error))


async def test_a_cancelled_coroutine_is_no_failure() -> None:
    """The cancellation of the call reaches the handler, and the caller."""
    started, released = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(execute(handler_of(wait), {}, released.set))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert released.is_set()


def test_a_code_is_checked() -> None:
    """The hub would close the connection for another one."""
    with pytest.raises(ValueError, match="is no code"):
        Rejected("no", code="Lid open")


def returning(result: object) -> Callable[[], object]:
    return lambda: result


def nested(levels: int) -> list[object]:
    result: list[object] = []
    for _ in range(levels - 1):
        result = [result]
    return result


async def test_a_result_is_a_json_value() -> None:
    """Structures of some levels; a tuple is a list."""
    for result, expected in ((nested(32), nested(32)), ((1, {"a": 0.5}), [1, {"a": 0.5}]), (None, None)):
        assert await outcome_of(returning(result), {}) == CommandOutcome("succeeded", result=expected)


@pytest.mark.parametrize(
    "result",
    [
        object(), "x" * 5000, 2**70, "\ud800", nested(33), nested(3000), math.nan, -math.inf, {"a": [math.nan]}, b"ab",
        {1}, {1: 2}, (Limits(), {"at": datetime(2026, 1, 31)}),
    ],
)  # fmt: skip
async def test_a_result_that_the_protocol_cannot_carry_is_left_out(result: object) -> None:
    """The command has succeeded anyway, and the operator learns that there was a result."""
    outcome = await outcome_of(returning(result), {})
    assert (outcome.state, outcome.code, outcome.result) == ("succeeded", "result_left_out", None)


async def test_a_thread_keeps_its_place_until_its_end() -> None:
    """A call that is given up returns at once; the thread cannot be stopped."""
    proceed, released = threading.Event(), asyncio.Event()

    def wait() -> None:
        proceed.wait()

    call = asyncio.create_task(execute(handler_of(wait), {}, released.set))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not released.is_set()
    proceed.set()
    await released.wait()
