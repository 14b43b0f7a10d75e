"""The lines of keys in a TOML document."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.toml_lines import KeyPath, key_lines, key_text, line_of, place_text

DOCUMENT = '''# a comment
hub = "http://hub"   # another
[tags]
site = "north"
"a b".c = 1

[[source]]
kind = "serial"
pattern = """
[source]
kind = 1"""
units = { t = "°C", p = "hPa" }
[source.types]
t = "float"
[[source]]
kind = "host"
'''


def test_each_key_has_its_line() -> None:
    """Headers, dotted and quoted keys, strings over several lines, and tables inside an array of tables."""
    tomllib.loads(DOCUMENT)
    expected: dict[KeyPath, int] = {
        ("hub",): 2, ("tags",): 3, ("tags", "site"): 4, ("tags", "a b"): 5, ("tags", "a b", "c"): 5,
        ("source", 0): 7, ("source", 0, "kind"): 8, ("source", 0, "pattern"): 9, ("source", 0, "units"): 12,
        ("source", 0, "units", "t"): 12, ("source", 0, "units", "p"): 12, ("source", 0, "types"): 13,
        ("source", 0, "types", "t"): 14, ("source", 1): 15, ("source", 1, "kind"): 16,
    }  # fmt: skip
    assert key_lines(DOCUMENT) == expected


def test_a_key_that_is_missing_has_the_line_of_its_table() -> None:
    """So has a key inside a value; a key of the whole document has none."""
    lines = key_lines(DOCUMENT)
    assert line_of(lines, ("source", 0, "port")) == 7
    assert line_of(lines, ("source", 1, "types", "t")) == 15
    assert line_of(lines, ("device",)) is None
    assert key_text(("source", 0, "types", "t")) == "source[0].types.t"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("tls", "ca"), "tls.ca"),
        (("source", 0), "source 1 (serial /dev/x)"),
        (("source", 0, "types", "t"), "source 1 (serial /dev/x): types.t"),
        (("source", 1, "maps", 1, "fields"), "source 2 (command sh): maps 2: fields"),
        (("source", 1, "command", 1), "source 2 (command sh): command 2"),
        (("source", 2, "port"), "source 3 (kiln): port"),
        (("source", 3, "kind"), "source 4: kind"),
        (("source", 9, "kind"), "source 10: kind"),
    ],
)
def test_people_read_which_table_of_an_array_it_is(path: KeyPath, expected: str) -> None:
    """Tables are counted from 1, and have the kind and the name by which people know them."""
    document = {
        "source": [
            {"kind": "serial", "port": "/dev/x"},
            {"kind": "command", "command": ["sh", "-c"], "maps": [{}, {"slave": 2}]},
            {"name": "kiln", "port": "/dev/y"},
            5,
        ]
    }
    assert place_text(path, document) == expected


KEYS = st.sampled_from(["a", "b", "c", '"d e"', "f.g"])


@given(st.lists(st.tuples(st.sampled_from(["", "[[s]]", "[[s.t]]", "[u]"]), st.sets(KEYS)), max_size=6))
def test_every_key_of_a_valid_document_is_found(tables: list[tuple[str, set[str]]]) -> None:
    """Whatever the order of tables is, each path exists in the document, and its line has the last name."""
    text = "".join(f"{header}\n" + "".join(f"{key} = 1\n" for key in sorted(keys)) for header, keys in tables)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = text.split("\n")
    for path, line in key_lines(text).items():
        value = document
        for part in path:
            value = value[part]  # type: ignore[index]
        assert isinstance(path[-1], int) or path[-1] in lines[line - 1]
    assert sum(len(keys) + sum("." in key for key in keys) for _, keys in tables) <= len(key_lines(text))
