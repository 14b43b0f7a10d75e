"""Commands in agent.toml: what cannot work is a problem with its line, and values cannot become more than values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.check import check_file
from device_agent.operator_commands.settings import (
    ConfiguredCommand,
    arguments_of_program,
    line_of_command,
)
from device_agent.settings import AgentSettings, AgentSettingsError, load_settings
from wire.command import CommandDeclaration, CommandParameter

SOURCES = """
hub = "ws://127.0.0.1:9"
device = "kiln"
spool_directory = "spools"
token_file = "token"

[[source]]
kind = "serial"
port = "/dev/ttyUSB7"
name = "board"

[[source]]
kind = "tcp"
address = "7000"
listen = true
name = "listener"

[[source]]
kind = "host"

[[source]]
kind = "modbus"
port = "/dev/ttyUSB8"
name = "bus"
device = "pump"
maps = [
    { slave = 1, name = "u1", fields = { speed = { address = 0 }, mode = { address = 1 } } },
    { slave = 2, name = "u2", fields = { speed = { address = 0 } } },
    { slave = 2, table = "input", fields = { level = { address = 0 } } },
]

[[command]]
"""

SPEED = '\n[[command.parameters]]\nname = "speed"\nmin = 0\nmax = 30\n'


def load(tmp_path: Path, command: str) -> AgentSettings:
    file = tmp_path / "agent.toml"
    file.write_text(SOURCES + command, encoding="utf-8")
    return load_settings(file)


def test_each_action_can_be_configured(tmp_path: Path) -> None:
    """A command belongs to the device of its source; a program to that of the agent or to its own."""
    settings = load(
        tmp_path,
        f"""
        name = "set_speed"
        description = "Speed of the belt"
        confirm = true
        source = "board"
        line = 'SPEED {{speed}}'
        {SPEED}
        [[command]]
        name = "set_speed"
        source = "bus"
        register = "u2.speed"
        {SPEED}
        [[command]]
        name = "stop"
        source = "bus"
        register = "speed"
        slave = 1
        value = 0
        [[command]]
        name = "reboot"
        program = ["sh", "-c", "true"]
        device = "pump"
        """,
    )
    assert [settings.device_of_command(command) for command in settings.command] == ["kiln", "pump", "pump", "pump"]
    assert settings.command[0].declaration == CommandDeclaration(
        "set_speed", "Speed of the belt", True, [CommandParameter("speed", min=0, max=30)]
    )
    assert [command.written for command in settings.command[1:3]] == ["{speed}", 0]


def test_each_setting_can_be_configured(tmp_path: Path) -> None:
    """A setting belongs to the device of its source; what sets it is a command whose only parameter is the value."""
    settings = load(
        tmp_path,
        """
        name = "stop"
        program = ["true"]
        [[setting]]
        name = "target"
        unit = "bar"
        min = 0
        max = 6
        source = "board"
        line = 'P {value}'
        answer = "OK*"
        [[setting]]
        name = "mode"
        type = "integer"
        choices = [1, 2]
        source = "bus"
        register = "mode"
        [[setting]]
        name = "lamp"
        type = "boolean"
        program = ["lamp", "{value}"]
        """,
    )
    assert [settings.device_of_command(setting) for setting in settings.setting] == ["kiln", "pump", "kiln"]
    assert settings.setting[0].declaration == CommandParameter("target", unit="bar", min=0, max=6)
    assert line_of_command(settings.setting[0].action, {"value": 2.5}) == b"P 2.5\n"
    assert settings.setting[1].action.written == "{value}"
    assert arguments_of_program(settings.setting[2].action, {"value": True}) == ["lamp", "true"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('name = "a"', "set one of line, register and program"),
        ('name = "a"\nline = "{value}"\nsource = "board"', "answer is missing"),
        ('name = "a"\nline = "x"\nanswer = "OK"\nsource = "board"', "{value} where its value goes"),
        ('name = "a"\nline = "{speed}"\nanswer = "OK"\nsource = "board"', "only {value} is replaced"),
        ('name = "a"\nprogram = ["x", "{value}"]\nmin = 3\nmax = 2', "a has a min of 3 above its max of 2"),
        ('name = "a"\nprogram = ["x", "{value}"]\ndefault = 2', "there is no such setting"),
        ('name = "a"\nregister = "level"\nsource = "bus"', "read only"),
        ('name = "a"\nprogram = ["x", "{value}"]\n[[setting]]\nname = "a"\nprogram = ["x", "{value}"]', "two settings"),
    ],
)
def test_a_setting_that_cannot_work_is_a_problem(tmp_path: Path, setting: str, problem: str) -> None:
    """It has the line of its table, and says what to write."""
    with pytest.raises(AgentSettingsError) as raised:
        load(tmp_path, f'name = "stop"\nprogram = ["true"]\n\n[[setting]]\n{setting}\n')
    (found,) = raised.value.problems
    assert problem in found.text
    assert found.place.startswith("setting ")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ('name = "a"', "set one of line, register and program"),
        ('name = "a"\nline = "x"\nprogram = ["x"]', "set one of line, register and program"),
        ('name = "a b"\nline = "x"\nsource = "board"', "command 1 (a b): name"),
        ('name = "a"\nline = "x"\nsorce = "board"', "there is no such setting; did you mean source?"),
        ('name = "a"\nline = "x"', "source is missing"),
        ('name = "a"\nline = "x"\nsource = "bord"', "there is no source 'bord'"),
        ('name = "a"\nline = "x"\nsource = "host"', "takes no lines"),
        ('name = "a"\nline = "x"\nsource = "listener"', "listens for devices"),
        ('name = "a"\nline = "x"\nsource = "board"\nrefusal = "ERR"', "answer is missing"),
        ('name = "a"\nprogram = ["x"]\nanswer = "OK"', "answer and refusal belong to line"),
        ('name = "a"\nline = "x"\nsource = "board"\nvalue = 1', "value and slave belong to register"),
        ('name = "a"\nline = "x"\nsource = "board"\ndevice = "kiln"', "directory and device belong to program"),
        (f'name = "a"\nline = "S {{sped}}"\nsource = "board"{SPEED}', "{sped} is no parameter"),
        (f'name = "a"\nline = "S"\nsource = "board"{SPEED}', "speed is used nowhere"),
        (f'name = "a"\nline = "{{speed}}"\nsource = "board"{SPEED}required = false', "give it a default"),
        (f'name = "a"\nline = "{{speed}}"\nsource = "board"{SPEED}default = 40', "40 is above 30"),
        (f'name = "a"\nline = "{{speed}}"\nsource = "board"{SPEED}mux = 40', "unknown field `mux`"),
        ('name = "a"\nregister = "speed"\nsource = "board"\nvalue = 1', "has no registers"),
        ('name = "a"\nregister = "speed"\nsource = "bus"', "value is missing"),
        (f'name = "a"\nregister = "mode"\nsource = "bus"\nvalue = 1{SPEED}', "speed is used nowhere"),
        ('name = "a"\nregister = "speed"\nsource = "bus"\nvalue = 1', "several maps have the field 'speed'"),
        ('name = "a"\nregister = "sped"\nsource = "bus"\nvalue = 1', "no map of 'bus' has the field 'sped'"),
        ('name = "a"\nregister = "mode"\nslave = 2\nsource = "bus"\nvalue = 1', "the field 'mode' of slave 2"),
        ('name = "a"\nregister = "level"\nsource = "bus"\nvalue = 1', "read only"),
        ('name = "a"\nregister = "mode"\nsource = "bus"\nvalue = "on"', "value is a number, a boolean, or"),
        ('name = "a"\nprogram = ["x"]\nsource = "board"', "a program has no source"),
        (f'name = "a"\nprogram = ["x", "--speed={{speed}}"]{SPEED}', "a parameter is a whole argument"),
        (f'name = "a"\nprogram = ["{{speed}}"]{SPEED}', "the program itself cannot be a parameter"),
        ('name = "a"\nprogram = [""]', "the name of a program"),
        ('name = "a"\nprogram = ["x"]\ndevice = "klin"', "no source has the device 'klin'"),
        ('name = "a"\nprogram = ["x"]\n[[command]]\nname = "a"\nprogram = ["y"]', "kiln has two commands 'a'"),
        ('name = "a"\nprogram = ["x"]\ntime_limit_s = 0', "command 1 (a): time_limit_s"),
    ],
)
def test_a_command_that_cannot_work_is_a_problem(tmp_path: Path, command: str, problem: str) -> None:
    """It has the line of its table, and says what to write."""
    with pytest.raises(AgentSettingsError) as found:
        load(tmp_path, command)
    (only,) = found.value.problems
    assert problem in only.sentence(tmp_path / "agent.toml")
    assert only.line is not None
    assert only.line > SOURCES.count("\n") - 1


def test_the_check_looks_for_programs(tmp_path: Path) -> None:
    """A program or a directory that is missing is found before an operator needs it."""
    lamp = '[[setting]]\nname = "b"\nprogram = ["no-such-lamp", "{value}"]'
    load(tmp_path, f'name = "a"\nprogram = ["no-such-program"]\ndirectory = "none"\n{lamp}')
    report = check_file(tmp_path / "agent.toml", connect_hub=False)
    found = [problem.sentence(Path("f")) for problem in report.problems if problem.key[0] in ("command", "setting")]
    assert found == [
        "f:34: command 1 (a): program: there is no program 'no-such-program' that can be run",
        f"f:35: command 1 (a): directory: there is no directory {tmp_path / 'none'}",
        "f:38: setting 1 (b): program: there is no program 'no-such-lamp' that can be run",
    ]
    assert "1 command, 1 setting" in report.summary


TEXT = ConfiguredCommand(
    name="say", source="x", line='{"say": "{text}", "n": {n}}', ending="crlf",
    parameters=(CommandParameter("text", "string"), CommandParameter("n")),
)  # fmt: skip
PROGRAM = ConfiguredCommand(
    name="say", program=("say", "--", "{text}", "{n}", "end"),
    parameters=(CommandParameter("text", "string", required=False), CommandParameter("n", required=False)),
)  # fmt: skip


@given(st.text())
def test_a_text_stays_within_its_quotes(text: str) -> None:
    """A line with any text is one line of JSON with this text, or it is rejected."""
    try:
        line = line_of_command(TEXT, {"text": text, "n": 2.0})
    except ValueError as error:
        assert "text: a text in a line has no control characters" in str(error)
        assert '"' in text or "\\" in text or not text.isprintable()
        return
    assert line.decode() == f'{{"say": "{text}", "n": 2}}\r\n'


@given(st.text())
def test_a_text_is_one_argument_and_no_option(text: str) -> None:
    """An argument is never split, and a program does not take it for an option."""
    try:
        arguments = arguments_of_program(PROGRAM, {"text": text, "n": -2.5})
    except ValueError as error:
        assert "does not begin with -" in str(error)
        assert text.startswith("-") or "\0" in text
        return
    assert arguments == ["say", "--", text, "-2.5", "end"]


def test_an_argument_without_a_value_is_left_out() -> None:
    """A choice may begin with a dash: it is of the file and not of the operator."""
    assert arguments_of_program(PROGRAM, {}) == ["say", "--", "end"]
    choice = CommandParameter("text", "string", choices=["-v", "-q"])
    chosen = ConfiguredCommand(name="say", program=("say", "{text}"), parameters=(choice,))
    assert arguments_of_program(chosen, {"text": "-v"}) == ["say", "-v"]


@pytest.mark.parametrize(("value", "text"), [(12.0, "12"), (0.5, "0.5"), (-3, "-3"), (True, "true"), (1e300, "1e+300")])
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    """A whole float has no fraction, and a boolean is `true` or `false`."""
    parameter = CommandParameter("n", "boolean" if isinstance(value, bool) else "float")
    command = ConfiguredCommand(name="n", source="x", line="N {n}", ending="none", parameters=(parameter,))
    assert line_of_command(command, {"n": value}) == f"N {text}".encode()
