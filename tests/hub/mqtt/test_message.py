"""Legal names from topics and payloads."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.mqtt.message import legal_device, legal_metric
from wire.model import DeviceId, MetricName


@given(st.text(max_size=200))
@example("")
@example("..")
@example("a" * 65)
@example("boiler/1")
def test_every_name_becomes_a_device_id(name: str) -> None:
    """Any text in a topic becomes a valid device id."""
    msgspec.convert(legal_device(name), DeviceId)


@given(st.text(max_size=200))
@example("")
@example(" ")
@example("a\x7f")
@example("é" * 129)
def test_every_name_becomes_a_name_of_a_metric(name: str) -> None:
    """Any text in a payload becomes a valid metric name."""
    msgspec.convert(legal_metric(name), MetricName)


@pytest.mark.parametrize("name", ["boiler-1", "0x00158d0001abcd", "a.b_c", "x" * 64])
def test_a_legal_device_keeps_its_name(name: str) -> None:
    """A valid id is not changed."""
    assert legal_device(name) == name


def test_two_names_have_different_ids() -> None:
    """A changed name gets a hash of the original, so that "a/b" and "a b" are two devices."""
    assert legal_device("a/b").startswith("a_b-")
    assert len({legal_device("a/b"), legal_device("a b"), legal_device("a_b")}) == 3
    assert len({legal_metric("x\n"), legal_metric("x\t"), legal_metric("x_")}) == 3


def test_a_metric_keeps_the_spaces_within() -> None:
    """Spaces inside a name are part of it."""
    assert legal_metric("Inlet °C 1/2") == "Inlet °C 1/2"
