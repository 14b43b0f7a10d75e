"""Names of devices and metrics, and templates."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.names import Template, legal_device, legal_metric, lookup_in
from wire.model import DeviceId, MetricName


@given(st.text(max_size=200))
def test_every_name_becomes_a_legal_one(name: str) -> None:
    """A legal name is not changed."""
    device, metric = legal_device(name), legal_metric(name)
    msgspec.convert(device, DeviceId)
    msgspec.convert(metric, MetricName)
    assert (legal_device(device), legal_metric(metric)) == (device, metric)


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
