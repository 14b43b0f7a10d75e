from __future__ import annotations

import pytest

from hub.storage.influxdb.answer import (
    MAX_RETRY_AFTER_S,
    Answer,
    Refused,
    Stored,
    Target,
    TooLarge,
    Unavailable,
    judge,
    retry_after,
    words_of,
)

TARGET = Target("http://influxdb:8086", "plant", "telemetry")
CONFLICT = 'partial write: field type conflict: input field "f" on measurement "m" is type float dropped=3'


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (204, b"", Stored()),
        (200, b"", Stored()),
        (400, b'{"error": "%s"}' % CONFLICT.replace('"', r"\"").encode(), Refused(CONFLICT, 3, True)),
        (
            422,
            b'{"code":"unprocessable entity","message":"partial write: x dropped=1"}',
            Refused("partial write: x dropped=1", 1, True),
        ),
        (
            400,
            b'{"error": "partial write: unable to parse \'m x\' dropped=0"}',
            Refused("partial write: unable to parse 'm x' dropped=0", 0, True),
        ),
        (
            400,
            b'{"code":"invalid","message":"unable to parse \'m x\': bad"}',
            Refused("unable to parse 'm x': bad", None, True),
        ),
        (400, b"<html>Bad Request</html>", Refused("400 Bad Request", None, False)),
        (413, b'{"error":"Request Entity Too Large"}', TooLarge("Request Entity Too Large")),
    ],
)
def test_what_is_stored_refused_and_too_large(status: int, body: bytes, answer: Answer) -> None:
    """As the versions of InfluxDB say it, and as something in between might."""
    assert judge(TARGET, status, {}, body) == answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the credentials: set store.token"),
        (403, "does not let these credentials write to telemetry of organisation plant"),
        (404, "has no telemetry of organisation plant: `hub store setup` makes it"),
        (307, "does not take writes (status 307): is store.url right?"),
        (405, "does not take writes (status 405): is store.url right?"),
        (429, "does not keep up"),
        (500, "does not keep up"),
        (503, "does not keep up"),
    ],
)
def test_what_may_change_is_waited_for(status: int, words: str) -> None:
    """With what to do, and the server's words."""
    answer = judge(TARGET, status, {}, b'{"message": "its words"}')
    assert isinstance(answer, Unavailable)
    assert words in answer.trouble
    assert answer.trouble.endswith("its words")
    assert answer.retry_after_s is None


def test_a_server_names_when_to_ask_again() -> None:
    """In seconds, within our bound; a date, or nonsense, is left alone."""
    answer = judge(TARGET, 503, {"retry-after": "7"}, b"")
    assert isinstance(answer, Unavailable)
    assert answer.retry_after_s == 7
    assert retry_after({"Retry-After": "86400"}) == MAX_RETRY_AFTER_S
    assert retry_after({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}) is None
    assert retry_after({"Retry-After": "-1"}) is None


def test_the_servers_words_are_one_line() -> None:
    """However it breaks them, and whatever form they have."""
    assert words_of(400, b'{"error":"one\\n two"}') == "one two"
    assert words_of(502, b"bad\ngateway") == "bad gateway"
    assert words_of(599, b"") == "599 "
    assert len(words_of(400, b"x" * 10_000)) == 512
