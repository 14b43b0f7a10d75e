"""Tests of refusals: which of them get a log line, what it shows, and what is counted."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hub.http.refusals import (
    LINES_PER_MINUTE,
    MAX_RECENT,
    MAX_SHOWN,
    QUIET_S,
    REMEDIES,
    RefusalCause,
    RefusalLimiter,
    RequestRefusals,
    RequestRefused,
    client_of,
    peer_of,
    shown,
)
from wire.errors import Code

HOST = RefusalCause.HOST_NOT_ALLOWED
ORIGIN = RefusalCause.ORIGIN_NOT_ALLOWED


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def logged(refusals: RequestRefusals, *reports: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log lines of these reports."""
    with structlog.testing.capture_logs() as lines:
        for report in reports:
            refusals.report(report["reason"], path=report["path"], peer=report["peer"], remedy=report["remedy"])
    return [dict(line) for line in lines]


def report(reason: RefusalCause = HOST, peer: str = "192.0.2.1", path: str = "/v1/live") -> dict[str, Any]:
    return {"reason": reason, "path": path, "peer": peer, "remedy": "do this"}


# Which refusals get a line.


def test_a_client_that_repeats_itself_gets_one_line_a_minute() -> None:
    """The next line, a minute later, reports how many had none."""
    limiter = RefusalLimiter()
    assert limiter.record(HOST, "192.0.2.1", 0.0) == (0, 0)
    assert [limiter.record(HOST, "192.0.2.1", float(second)) for second in range(1, 60)] == [None] * 59
    assert limiter.record(HOST, "192.0.2.1", QUIET_S) == (59, 0)
    assert limiter.record(HOST, "192.0.2.1", 2 * QUIET_S) == (0, 0)


def test_each_reason_and_each_client_has_its_own_line() -> None:
    """A second fault of one client, and the same fault of another client, are news."""
    limiter = RefusalLimiter()
    for reason in (HOST, ORIGIN):
        for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            assert limiter.record(reason, address, 0.0) == (0, 0)
    assert limiter.record(HOST, "2001:db8::ffff", 0.0) is None, "the same machine"


def test_many_clients_get_a_bounded_number_of_lines() -> None:
    """The line after the minute reports its own client's refusals; the counts of clients are not lost."""
    limiter = RefusalLimiter(max_sources=10)
    lines = [limiter.record(HOST, f"192.0.2.{number}", 0.0) for number in range(200)]
    assert [line is not None for line in lines] == [True] * LINES_PER_MINUTE + [False] * (200 - LINES_PER_MINUTE)
    assert len(limiter) == 10
    later = limiter.record(HOST, "198.51.100.1", QUIET_S)
    assert later is not None
    assert later.other_clients + limiter.silent == 200 - LINES_PER_MINUTE
    assert later.other_clients >= 200 - LINES_PER_MINUTE - 10
    assert limiter.record(ORIGIN, "192.0.2.1", 0.0) == (0, 0), "another reason has its own lines"


@given(
    st.lists(
        st.tuples(st.sampled_from([HOST, ORIGIN]), st.sampled_from("abcdefgh"), st.floats(0, 2 * QUIET_S)), max_size=200
    ),
    st.integers(1, 6),
)
def test_every_refusal_is_in_a_line_or_still_counted(
    refusals: list[tuple[RefusalCause, str, float]], max_sources: int
) -> None:
    """Lines, what they report, and what waits for the next line add up to all refusals, within bounded memory."""
    limiter = RefusalLimiter(max_sources)
    now_s, accounted = 0.0, 0
    for reason, client, gap_s in refusals:
        now_s += gap_s
        line = limiter.record(reason, client, now_s)
        if line is not None:
            accounted += 1 + line.same_client + line.other_clients
        assert len(limiter) <= max_sources
    assert accounted + limiter.silent == len(refusals)


# The line and the counts.


def test_a_line_has_path_peer_reason_and_remedy() -> None:
    """The event is constant, the level is info, and an empty field is left out."""
    (line,) = logged(RequestRefusals(), report())
    assert line == {
        "event": "request refused",
        "log_level": "info",
        "path": "/v1/live",
        "peer": "192.0.2.1",
        "reason": "host_not_allowed",
        "remedy": "do this",
    }


def test_a_line_reports_what_had_none() -> None:
    """A reader sees that the client continued."""
    clock = Clock()
    refusals = RequestRefusals(clock)
    assert len(logged(refusals, *[report()] * 5)) == 1
    clock.now_s += QUIET_S
    (line,) = logged(refusals, report())
    assert line["not_logged"] == 4
    assert refusals.counts == {HOST: 6}


def test_the_fields_of_a_request_come_from_its_scope() -> None:
    """The path and the peer are those of the scope, the remedy that of the refusal."""
    refusals = RequestRefusals()
    refused = RequestRefused(ORIGIN, "the page is foreign", "allow it")
    with structlog.testing.capture_logs() as lines:
        refusals.report_scope({"path": "/v1/live", "client": ("192.0.2.1", 1234)}, refused)
    assert lines[0]["detail"] == "the page is foreign"
    assert (lines[0]["path"], lines[0]["peer"], lines[0]["remedy"]) == ("/v1/live", "192.0.2.1", "allow it")
    assert (refused.code, refused.message) == (Code.NOT_ALLOWED, "the page is foreign; allow it")


def test_the_last_refusal_of_a_client_is_known_for_a_while() -> None:
    """Also if it had no line."""
    clock = Clock()
    refusals = RequestRefusals(clock)
    assert not refusals.was_refused(HOST, "192.0.2.1", within_s=10)
    logged(refusals, report(), report())
    clock.now_s += 10
    assert refusals.was_refused(HOST, "192.0.2.1", within_s=10)
    assert not refusals.was_refused(HOST, "192.0.2.1", within_s=9)
    assert not refusals.was_refused(HOST, "192.0.2.2", within_s=10)
    assert not refusals.was_refused(ORIGIN, "192.0.2.1", within_s=10)


def test_every_reason_has_a_remedy_or_names_its_own() -> None:
    """Host and origin name the value that the setting needs, so there is no general sentence."""
    assert set(RefusalCause) - set(REMEDIES) == {HOST, ORIGIN}


# The clients that were refused lately.


def test_attempts_of_a_client_are_counted_by_reason_and_path() -> None:
    """The newest come first, with the newest detail; the addresses of one machine are one client."""
    now = iter(range(1, 10))
    refusals = RequestRefusals(now_ns=lambda: next(now))
    for reason, peer, path, detail in (
        (HOST, "2001:db8::1", "/v1/live", "first"),
        (ORIGIN, "192.0.2.1", "/v1/live", "other"),
        (HOST, "2001:db8::2", "/v1/live", "newest\n"),
    ):
        refusals.report(reason, path=path, peer=peer, remedy="do this", detail=detail)
    refusals.report(RefusalCause.UNKNOWN_PATH, path="/wp-admin", peer="192.0.2.1")
    first, second = refusals.recent()
    assert (first.reason, first.peer, first.count, first.last_ns) == (HOST, "2001:db8::2", 2, 3)
    assert (first.detail, first.remedy) == (shown("newest\n"), "do this")
    assert (second.reason, second.count) == (ORIGIN, 1)


def test_a_flood_leaves_a_bounded_list() -> None:
    """The client that was silent for longest leaves it, and long paths are cut."""
    refusals = RequestRefusals()
    refusals.report(HOST, path="/v1/live", peer="192.0.2.1", remedy="do this")
    for number in range(MAX_RECENT):
        refusals.report(HOST, path=f"/{number:0{2 * MAX_SHOWN}}", peer="192.0.2.2", remedy="do this")
        refusals.report(HOST, path="/v1/live", peer="192.0.2.1", remedy="do this")
    recent = refusals.recent()
    assert len(recent) <= MAX_RECENT
    assert (recent[0].peer, recent[0].count) == ("192.0.2.1", MAX_RECENT + 1)
    assert all(len(attempts.path) <= MAX_SHOWN + 1 for attempts in recent)


# Values from outside.


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("/v1/live", "/v1/live"),
        ("/größe", "/größe"),
        ("a\r\nlevel=error b", r"a\r\nlevel=error b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
        ("\0", r"\x00"),
        ("x" * 200, "x" * MAX_SHOWN + "…"),
    ],
)
def test_a_value_from_outside_cannot_change_the_log(text: str, safe: str) -> None:
    """It cannot begin a line, move the cursor, reverse the direction of text, or fill the line."""
    assert shown(text) == safe


@given(st.text(max_size=300))
def test_any_value_is_shown_in_bounded_printable_text(text: str) -> None:
    """Each character takes at most ten."""
    safe = shown(text)
    assert safe.isprintable()
    assert not any(unicodedata.bidirectional(character) in {"RLO", "LRO", "RLE", "LRE"} for character in safe)
    assert len(safe) <= 10 * MAX_SHOWN + 1


def test_an_ipv6_machine_is_one_client() -> None:
    """It has all addresses below its first 64 bits; an IPv4 address written as IPv6 is that IPv4 address."""
    assert client_of("2001:db8::1") == client_of("2001:db8::2") != client_of("2001:db8:0:1::1")
    assert client_of("::ffff:192.0.2.1") == client_of("192.0.2.1")
    assert client_of("x" * 100) == "x" * 64
    assert (peer_of({"client": ("192.0.2.1", 1)}), peer_of({"client": None}), peer_of({})) == ("192.0.2.1", "", "")
