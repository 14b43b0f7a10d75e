"""A user's own function for payloads that nothing else can read: `decode(topic, payload)` in a file of Python.

It runs in the hub's process and in its loop: it has all of the hub's rights, and nothing else happens while it runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from hub.mqtt.payload.json import ANY_TIME, TimeField, records
from hub.mqtt.payload.record import Record
from hub.mqtt.reading import Undecodable

NAME = "decode"

Function = Callable[[str, bytes], object]
"""Of a topic and a payload: a dict as an object of JSON would be, a list of such dicts, or None for nothing."""


def load_function(path: Path) -> Function:
    """The function `decode` of the file. Raises ValueError with a sentence where there is none."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"telemetry_hub_decode_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no file of Python: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ValueError(f"{path} cannot be loaded: {_sentence(error)}") from error
    function = getattr(module, NAME, None)
    if not callable(function):
        raise ValueError(f"{path} has no function {NAME}(topic, payload)")
    decode: Function = function
    return decode


def read_function(function: Function, topic: str, payload: bytes, time: TimeField = ANY_TIME) -> list[Record]:
    """What the function makes of a message. Raises Undecodable, for whatever the function raises, too."""
    try:
        content = function(topic, payload)
    except BaseException as error:
        # Also what would end the hub: it is the function's mistake, and costs its message.
        raise Undecodable("function", f"{NAME}() failed: {_sentence(error)}") from error
    if content is None:
        return []
    _check_shape(content, 1)
    return records(content, time)


def _check_shape(content: object, depth: int) -> None:
    """Raises Undecodable for what JSON could not be: it may even hold itself."""
    if depth > MAX_SHAPE_DEPTH:
        raise Undecodable("depth", f"what {NAME}() gives back nests too deeply")
    match content:
        case None | bool() | int() | float() | str():
            return
        case dict():
            for name, inner in content.items():
                if not isinstance(name, str):
                    raise Undecodable(
                        "function", f"{NAME}() gives back a dict with {name!r} as a name: names are texts"
                    )
                _check_shape(inner, depth + 1)
        case list() | tuple():
            for inner in content:
                _check_shape(inner, depth + 1)
        case _:
            kind = type(content).__name__
            raise Undecodable(
                "function", f"{NAME}() gives back a {kind}: it may be a dict or a list of dicts of values"
            )


MAX_SHAPE_DEPTH = 32
"""More than what is taken: what is nested beyond that is refused as JSON is."""


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
