"""Error codes and close codes."""

from __future__ import annotations

import pytest

from wire.errors import CLOSE_FOR_CODE, FINAL_CLOSES, RETRYABLE_CLOSES, Close, Code, WireError

OF_A_BATCH = {
    Code.UNKNOWN_METRIC,
    Code.TYPE_CONFLICT,
    Code.WRONG_TYPE,
    Code.OUT_OF_RANGE,
    Code.NOT_FINITE,
    Code.LENGTH_MISMATCH,
    Code.EMPTY,
}
OF_A_SUBSCRIPTION = {Code.UNKNOWN_SUBSCRIPTION, Code.DUPLICATE_SUBSCRIPTION, Code.UNAVAILABLE}


def test_every_code_ends_a_connection_or_concerns_one_batch_or_one_subscription() -> None:
    """No code is without its answer."""
    assert OF_A_BATCH | OF_A_SUBSCRIPTION | set(CLOSE_FOR_CODE) == set(Code)
    assert not (OF_A_BATCH | OF_A_SUBSCRIPTION) & set(CLOSE_FOR_CODE)


@pytest.mark.parametrize(
    ("close", "codes"),
    [
        (Close.NOT_AUTHENTICATED, {Code.NOT_AUTHENTICATED, Code.REVOKED}),
        (Close.NOT_ALLOWED, {Code.NOT_ALLOWED}),
        (Close.SUPERSEDED, {Code.SUPERSEDED}),
        (Close.POLICY_VIOLATION, {Code.TOO_MANY_FRAMES}),
        (Close.TOO_BIG, {Code.TOO_LARGE}),
        (Close.SERVICE_RESTART, {Code.SHUTTING_DOWN}),
        (Close.TRY_AGAIN_LATER, {Code.BUSY, Code.STORAGE_FULL, Code.STORAGE_FAILED}),
    ],
)
def test_each_error_has_its_close_code(close: Close, codes: set[Code]) -> None:
    """Every other error that ends a connection is a bad message."""
    assert {code for code, mapped in CLOSE_FOR_CODE.items() if mapped is close} == codes


def test_only_being_superseded_is_final() -> None:
    """An agent comes back after everything else, at its usual or its slowest pace."""
    assert {Close.SUPERSEDED} == FINAL_CLOSES
    assert not FINAL_CLOSES & RETRYABLE_CLOSES
    assert {1000, 1001, 1005, 1006, 1011, 1012, 1013, 4400} == RETRYABLE_CLOSES


def test_an_error_tells_its_code_and_its_sentence() -> None:
    """Also when it is only printed."""
    error = WireError(Code.EMPTY, "no reading", seq=3)
    assert str(error) == "empty: no reading"
    assert (error.code, error.message, error.seq) == (Code.EMPTY, "no reading", 3)
