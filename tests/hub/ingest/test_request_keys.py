"""Keys of stored requests: the newest are known, after a restart too, and a key belongs to one content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest import request_keys as module
from hub.ingest.request_keys import KeyedRequest, KeyReused, RequestKeys
from hub.model.identity import Identity, Role
from wire.plain import RefusedReading

DEVICE = Identity("t1", Role.DEVICE, "pump")


def request(key: str, content: bytes = b"a", identity: Identity = DEVICE) -> KeyedRequest:
    return KeyedRequest.of(identity, key, b"rules", content)


def test_a_key_belongs_to_one_token_and_one_content() -> None:
    """The rules are a part of the content, at their own place."""
    assert request("k") == request("k")
    assert request("k").key != request("k", identity=DEVICE._replace(token_id="t2")).key
    assert KeyedRequest.of(DEVICE, "k", b"ab", b"c").content != KeyedRequest.of(DEVICE, "k", b"a", b"bc").content
    with pytest.raises(KeyReused, match="Use a new key"):
        request("k").check(request("k", b"b").content)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 5))
def test_the_newest_keys_are_known_also_after_a_restart(numbers: list[int], most: int) -> None:
    """The facts in the journal have a bounded number of names, and say the same as the memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_KEYS", most)
        facts: dict[str, object] = {"other": 1, "request:x": "no JSON", "id": "f"}
        keys = RequestKeys()
        order: list[int] = []
        for number in numbers:
            if keys.find(request(str(number))) is None:
                refused = [RefusedReading("type", "no")] * 9
                stored, text = keys.add(request(str(number)), number, 9, refused)
                facts[stored.place] = text
                keys.confirm(stored)
                order.append(number)
        restarted = RequestKeys(facts.items())
        assert len(facts) <= 3 + most
        for known in (keys, restarted):
            for number in range(10):
                found = known.find(request(str(number)))
                assert (found is not None) == (number in order[-most:])
                if found is not None:
                    assert (found.readings, found.refused_count, len(found.refused)) == (number, 9, 3)


def test_a_request_that_was_not_stored_leaves_no_key() -> None:
    """Its number is not used again, so that it replaces no other key of the same place."""
    keys = RequestKeys()
    keys.add(request("lost"), 1, 0, ())
    stored, _ = keys.add(request("k"), 1, 0, ())
    assert (keys.find(request("lost")), stored.place) == (None, "request:1")
