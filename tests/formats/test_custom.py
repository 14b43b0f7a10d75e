"""Formats that a user describes: a regular expression and a function."""

from __future__ import annotations

import pytest

from formats.custom import FunctionError, function_reader, load_function
from formats.record import InputRecord, TextFrame
from tests.formats.reading_of import read


def decoded(result: object) -> list[object]:
    def decode(frame: bytes) -> object:
        if isinstance(result, BaseException):
            raise result
        return result

    found = list(function_reader(decode)([TextFrame(1, b"x")]))
    return [entry.values if isinstance(entry, InputRecord) else entry.code for entry in found]


def test_named_groups_are_the_fields() -> None:
    """A group that did not match is no value; a group `time` is the time."""
    content = read(
        "1795878000 T=21.5\n1795878001 T=x H=40\n",
        format="regex",
        pattern=r"(?P<time>\d+) T=(?P<temp>\S+)(?: H=(?P<hum>\d+))?",
    )
    assert content.values == [{"temp": 21.5}, {"hum": 40.0}]
    assert content.times == [1_795_878_000 * 10**9, 1_795_878_001 * 10**9]
    assert content.codes == [(2, "type")]


def test_a_function_returns_values() -> None:
    """It returns a dict, a list of them, or None."""
    assert decoded({"t": 1, "in": {"x": 2}}) == [{"t": 1, "in.x": 2}]
    assert decoded([{"t": 1}, {"t": 2}]) == [{"t": 1}, {"t": 2}]
    assert decoded(None) == []


def test_a_mistake_in_the_function_costs_one_frame() -> None:
    """This includes the end of the program, and results that JSON cannot express."""
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert decoded(ValueError("no")) == ["function"]
    assert decoded(SystemExit(1)) == ["function"]
    assert decoded(loop) == ["depth"]
    assert decoded({1: 2}) == ["function"]
    assert decoded(object()) == ["function"]
    assert decoded(21.5) == ["function"]


def test_an_interrupt_within_the_function_stops_the_program() -> None:
    """Ctrl-C during a long function is no mistake in it."""
    with pytest.raises(KeyboardInterrupt):
        decoded(KeyboardInterrupt())


FILE = """
def decode(frame):
    name, value = frame.split(b"=")
    return {name.decode(): float(value) * 0.1, "ok": True}

SAMPLES = %s
"""


def load_error(source: str) -> str:
    with pytest.raises(FunctionError) as caught:
        load_function(source, "boiler.py")
    return str(caught.value)


def test_a_file_with_good_samples_is_loaded() -> None:
    """Fractions agree in nine digits, and an error is a result, too. Samples can be missing."""
    function = load_function(FILE % '[(b"t=3", {"t": 0.3, "ok": True}), (b"t", ValueError)]', "boiler.py")
    assert function(b"t=5") == {"t": 0.5, "ok": True}
    assert load_function("def decode(frame): return None", "boiler.py")(b"") is None


@pytest.mark.parametrize(
    "sample",
    ['{"t": 0.4, "ok": True}', '{"t": 0.3, "ok": 1}', '{"t": 0.3}', "None", "ValueError", '[{"t": 0.3, "ok": True}]'],
)
def test_another_result_than_that_of_the_sample_is_an_error(sample: str) -> None:
    """The sentence has the file, the sample, its result and the expected one."""
    text = load_error(FILE % f'[(b"t=3", {{"t": 0.3, "ok": True}}), (b"t=3", {sample})]')
    assert text.startswith("boiler.py: sample 2: decode(b't=3') returned {'t': 0.3")
    assert ", expected " in text


def test_an_error_in_a_sample_is_an_error_of_the_file() -> None:
    """The sentence has the exception."""
    text = load_error(FILE % '[(b"t=x", {"t": 1})]')
    assert "decode(b't=x') raised ValueError: could not convert" in text
    assert load_error(FILE % '[(b"t=x", KeyError)]').endswith("expected <class 'KeyError'>")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def decode(frame", "cannot be loaded: SyntaxError"),
        ("raise SystemExit(2)", "cannot be loaded: SystemExit"),
        ("x = 1", "does not define decode(frame)"),
        (FILE % "5", "SAMPLES is not a list"),
        (FILE % "[5]", "sample 1 is not a pair"),
        (FILE % "[(b't=1',)]", "sample 1 is not a pair"),
        (FILE % "[(b't=1', None)] * 1001", "SAMPLES is not a list"),
        ("\0", "cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(source: str, words: str) -> None:
    """The sentence begins with its name."""
    text = load_error(source)
    assert text.startswith("boiler.py")
    assert words in text


def test_a_function_of_two_arguments_has_samples_of_three_parts() -> None:
    """Functions of MQTT get the topic before the payload."""
    source = "def decode(topic, payload): return {topic: int(payload)}\nSAMPLES = [('a/b', b'5', {'a/b': %d})]"
    assert load_function(source % 5, "boiler.py")("x", b"1") == {"x": 1}
    assert "decode('a/b', b'5') returned" in load_error(source % 6)
