"""Names of devices and metrics, and templates."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from formats.names import Template, legal_device, legal_metric, lookup_in
from wire.model import DeviceId, MetricName


@given(st.text(max_size=200))
@example("")
@example("..")
@example(" ")
@example("a\x7f")
@example("a" * 65)
@example("é" * 129)
@example("boiler/1")
def test_every_name_becomes_a_legal_one(name: str) -> None:
    """A legal name is not changed."""
    device, metric = legal_device(name), legal_metric(name)
    msgspec.convert(device, DeviceId)
    msgspec.convert(metric, MetricName)
    assert (legal_device(device), legal_metric(metric)) == (device, metric)


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


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_names_stay_different(first: str, second: str) -> None:
    """A changed name has a hash of the original."""
    assert (legal_device(first) == legal_device(second)) == (first == second)


def test_a_template_is_filled_from_names_and_fields() -> None:
    """A place with | is the first field that exists; numbers have no needless fraction."""
    lookup = lookup_in({"host": "kitchen"}, {"id": 144.0, "ok": True, "gone": None})
    assert Template("{host}-{id}").fill(lookup) == "kitchen-144"
    assert Template("{gone|ok}").fill(lookup) == "true"
    with pytest.raises(KeyError, match="gone"):
        Template("{gone}").fill(lookup)
