from __future__ import annotations

import re

import pytest

from hub.model.store import StoreUnavailable
from hub.storage.influxdb.client import (
    MAX_RETRY_AFTER_S,
    PointsRefused,
    RequestTooLarge,
    WriteAccepted,
    WriteAnswer,
    error_text,
    interpret_answer,
    retry_after,
)
from hub.storage.influxdb.state import BucketAddress

TARGET = BucketAddress("http://influxdb:8086", "plant", "telemetry")
CONFLICT = 'partial write: field type conflict: input field "f" on measurement "m" is type float dropped=3'


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (204, b"", WriteAccepted()),
        (200, b"", WriteAccepted()),
        (400, b'{"error": "%s"}' % CONFLICT.replace('"', r"\"").encode(), PointsRefused(CONFLICT, 3, True)),
        (
            422,
            b'{"code":"unprocessable entity","message":"partial write: x dropped=1"}',
            PointsRefused("partial write: x dropped=1", 1, True),
        ),
        (
            400,
            b'{"error": "partial write: unable to parse \'m x\' dropped=0"}',
            PointsRefused("partial write: unable to parse 'm x' dropped=0", 0, True),
        ),
        (
            400,
            b'{"code":"invalid","message":"unable to parse \'m x\': bad"}',
            PointsRefused("unable to parse 'm x': bad", None, True),
        ),
        (400, b"<html>Bad Request</html>", PointsRefused("400 Bad Request", None, False)),
        (413, b'{"error":"Request Entity Too Large"}', RequestTooLarge("Request Entity Too Large")),
    ],
)
def test_answers_that_store_refuse_or_are_too_large(status: int, body: bytes, answer: WriteAnswer) -> None:
    """Answers of the versions of InfluxDB, and of a possible proxy."""
    assert interpret_answer(TARGET, status, {}, body) == answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the credentials: set store.token"),
        (403, "does not allow these credentials to write to telemetry of organisation plant"),
        (404, "has no telemetry of organisation plant: create it with `hub store setup`"),
        (307, "does not accept writes (status 307): check store.url"),
        (405, "does not accept writes (status 405): check store.url"),
        (429, "is overloaded or failing"),
        (500, "is overloaded or failing"),
        (503, "is overloaded or failing"),
    ],
)
def test_temporary_problems_are_retried(status: int, words: str) -> None:
    """The result says what to do, with the server's text."""
    with pytest.raises(StoreUnavailable, match=f"{re.escape(words)}.*its words$") as raised:
        interpret_answer(TARGET, status, {}, b'{"message": "its words"}')
    assert raised.value.retry_after_s is None


def test_a_server_names_when_to_ask_again() -> None:
    """The time is in seconds, within the limit; a date or an invalid value is ignored."""
    with pytest.raises(StoreUnavailable) as raised:
        interpret_answer(TARGET, 503, {"retry-after": "7"}, b"")
    assert raised.value.retry_after_s == 7
    assert retry_after({"Retry-After": "86400"}) == MAX_RETRY_AFTER_S
    assert retry_after({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}) is None
    assert retry_after({"Retry-After": "-1"}) is None


def test_the_servers_text_is_one_line() -> None:
    """This holds for any line breaks and any form."""
    assert error_text(400, b'{"error":"one\\n two"}') == "one two"
    assert error_text(502, b"bad\ngateway") == "bad gateway"
    assert error_text(599, b"") == "599 "
    assert len(error_text(400, b"x" * 10_000)) == 512
