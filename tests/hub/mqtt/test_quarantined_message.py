"""Messages in quarantine: which of their values are not stored."""

from __future__ import annotations

from collections import Counter

import pytest

from formats.record import RefusedInput
from hub.mqtt.message import Message, RejectedMessage
from hub.mqtt.quarantined_message import RefusedMessage, read_quarantined

MESSAGE = Message("j/boiler", b'{"a": "ERR", "b": 3}', received_ns=7)


def refusal(metric: str, device: str = "boiler") -> RefusedInput:
    return RefusedInput(1, MESSAGE.payload, "type", "no", metric, "ERR", device=device)


def quarantined(*refusals: RefusedInput, is_partial: bool = True) -> RefusedMessage:
    content = RejectedMessage(MESSAGE, "type", "no", refusals, is_partial).content()
    found = read_quarantined(content)
    assert found is not None
    assert found.message(7) == MESSAGE
    return found


def test_only_refused_values_are_not_stored() -> None:
    """The other values of the message are."""
    found = quarantined(refusal("a"))
    assert found.was_refused("boiler", "a")
    assert not found.was_refused("boiler", "b")
    assert not found.was_refused("other", "a")


@pytest.mark.parametrize("refusals", [[], [refusal("a")], [refusal("", "")]])
def test_no_value_of_a_message_that_was_refused_whole_is_stored(refusals: list[RefusedInput]) -> None:
    """So all of them are read again."""
    found = quarantined(*refusals, is_partial=False)
    assert found.was_refused("boiler", "b")
    assert not found.is_ambiguous(Counter({("boiler", "a"): 5}))


def test_values_that_cannot_be_told_from_stored_ones_are_ambiguous() -> None:
    """More values of a metric than were refused, a refused line, or more refusals than an entry lists."""
    one = quarantined(refusal("a"))
    assert not one.is_ambiguous(Counter({("boiler", "a"): 1, ("boiler", "c"): 9}))
    assert one.is_ambiguous(Counter({("boiler", "a"): 2}))
    assert quarantined(refusal("a"), refusal("", "")).is_ambiguous(Counter())
    assert quarantined(*[refusal("a")] * 200).is_ambiguous(Counter())


def test_a_cut_payload_is_no_message() -> None:
    """Neither is what no bridge has written."""
    cut = RefusedMessage("t", "AA==", payload_bytes=9)
    assert cut.message(1) is None
    assert RefusedMessage("t", "A").message(1) is None
    assert read_quarantined(b'{"type": "data"}') is None
