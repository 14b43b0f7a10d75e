"""Compressed containers are opened with a bound."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.container import inflated, unpacked
from formats.record import FrameRefused


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@given(st.binary(max_size=200).filter(lambda data: not data.startswith(b"\x1f\x8b")))
def test_what_was_packed_is_unpacked(data: bytes) -> None:
    """gzip and zlib are recognised, deflate is declared; gzip may have several members."""
    assert unpacked(gzip.compress(data)) == (data, "gzip")
    assert unpacked(zlib.compress(data)) == (data, "zlib")
    assert inflated(raw_deflate(data), "deflate") == data
    assert unpacked(gzip.compress(data) + gzip.compress(b"end")) == (data + b"end", "gzip")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_bomb_is_refused_at_the_bound(pack: object) -> None:
    """No more than the bound and one byte is in memory."""
    bomb = pack(b"\0" * 20_000_000)  # type: ignore[operator]
    tracemalloc.start()
    try:
        with pytest.raises(FrameRefused) as refused:
            unpacked(bomb, max_bytes=100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "size"
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"x" * 100, mtime=0)[:20],
        b"\x1f\x8bnot gzip at all",
        gzip.compress(b"x", mtime=0)[:-9] + b"123456789",
    ],
)
def test_damaged_data_is_refused(data: bytes) -> None:
    """The reason says that the content is incomplete or damaged."""
    with pytest.raises(FrameRefused) as refused:
        unpacked(data)
    assert refused.value.code == "container"


@given(st.binary(max_size=50))
def test_other_bytes_are_returned_as_they_are(data: bytes) -> None:
    """A text that only looks like zlib is not one."""
    try:
        content, kind = unpacked(data)
    except FrameRefused:
        return
    assert kind or content == data
    assert unpacked(b"x\x9cis text") == (b"x\x9cis text", "")


def test_a_container_in_a_container_is_refused() -> None:
    """It is no text, and its lines would be refused without the reason."""
    for outer in (gzip.compress, zlib.compress):
        with pytest.raises(FrameRefused, match="gzip data again") as refused:
            unpacked(outer(gzip.compress(b"21.5")))
        assert refused.value.code == "container"
