from __future__ import annotations

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.mqtt.publication import Encoder, LatestValues, Publication, Sampler
from hub.mqtt.topics import TopicTemplate

A, B = Series(1, "d", "a", "float"), Series(2, "d", "b", "float")


def entry(offset: int, time_ns: int, series: Series, value: float) -> tuple[Entry, Batch]:
    batch = Batch([time_ns], [(series, [value])], readings=1)
    return Entry(EntryKind.BATCH, "d", "0" * 16, offset, 0, "msgpack", b"", batch=batch, offset=offset), batch


def latest() -> LatestValues:
    return LatestValues(Encoder(Publication(TopicTemplate.parse("{device}/state"), "json", every_s=10.0)))


def payloads(sampler: Sampler, now_s: float) -> list[bytes]:
    return [message.payload for _, message in sampler.due(now_s)]


def test_the_state_of_a_device_outlives_the_connection() -> None:
    """What came on an earlier connection is part of what is said on the next, where anything changed."""
    kept = latest()
    sampler = Sampler(kept, 0.0)
    sampler.add(*entry(1, 5, A, 1.0))
    assert len(payloads(sampler, 0.0)) == 1
    again = Sampler(kept, 20.0)
    assert payloads(again, 20.0) == []
    again.add(*entry(2, 6, B, 2.0))
    (payload,) = payloads(again, 20.0)
    assert b'"a":1' in payload and b'"b":2' in payload  # noqa: PT018


def test_what_may_never_have_arrived_goes_out_as_it_is_known_by_now() -> None:
    """After the connection broke the same entries come again, some of them older than what is known."""
    kept = latest()
    before = Sampler(kept, 0.0)
    for offset, time_ns, value in ((1, 5, 1.0), (2, 6, 2.0)):
        before.add(*entry(offset, time_ns, A, value))
    again = Sampler(kept, 0.0)
    assert again.add(*entry(1, 5, A, 1.0))
    assert again.hold == 0
    (payload,) = payloads(again, 0.0)
    assert b'"a":2' in payload


def test_what_is_late_is_not_the_latest() -> None:
    """A reading that is older than the known one, and new to the hub."""
    sampler = Sampler(latest(), 0.0)
    sampler.add(*entry(1, 6, A, 2.0))
    sampler.due(0.0)
    assert not sampler.add(*entry(2, 5, A, 1.0))
