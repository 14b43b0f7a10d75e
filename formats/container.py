"""Compressed containers: gzip, zlib and raw deflate, opened with a bound against decompression bombs."""

from __future__ import annotations

import zlib

from formats.record import FrameRefused

MAX_CONTENT_BYTES = 64 * 1024 * 1024
"""Content of one container. A year of one reading a second as CSV has about this size."""

MAX_MEMBERS = 1024
"""Members of one gzip file; programs that append to a log write one each day or hour."""

_GZIP = b"\x1f\x8b"
_ZLIB_LEVELS = (0x01, 0x5E, 0x9C, 0xDA)


def unpacked(data: bytes, max_bytes: int = MAX_CONTENT_BYTES) -> tuple[bytes, str]:
    """Return the content and the name of its container, "" for none. Raises FrameRefused.

    gzip and zlib are recognised by their first bytes. Bytes that only look like zlib are returned as they are.
    """
    content, kind = _unpacked_once(data, max_bytes)
    if kind and content.startswith(_GZIP):
        raise FrameRefused("container", f"the {kind} data contains gzip data again; decompress it once before")
    return content, kind


def _unpacked_once(data: bytes, max_bytes: int) -> tuple[bytes, str]:
    if data.startswith(_GZIP):
        return inflated(data, "gzip", max_bytes), "gzip"
    if len(data) > 2 and data[0] == 0x78 and data[1] in _ZLIB_LEVELS:
        try:
            return inflated(data, "zlib", max_bytes), "zlib"
        except FrameRefused as error:
            if error.code == "size":
                raise
    return data, ""


def inflated(data: bytes, kind: str, max_bytes: int = MAX_CONTENT_BYTES) -> bytes:
    """Return the content of a gzip, zlib or deflate container. Raises FrameRefused.

    Raw deflate has no mark, so only a declaration identifies it.
    """
    window = {"gzip": 31, "zlib": 15, "deflate": -15}[kind]
    content: list[bytes] = []
    size = 0
    for _ in range(MAX_MEMBERS):
        opener = zlib.decompressobj(window)
        try:
            part = opener.decompress(data, max_bytes - size + 1)
        except zlib.error as error:
            raise FrameRefused("container", f"the {kind} data is damaged: {error}") from None
        size += len(part)
        if size > max_bytes:
            raise FrameRefused("size", f"the {kind} data has more than {max_bytes:,} bytes of content")
        if not opener.eof:
            raise FrameRefused("container", f"the {kind} data is incomplete; the rest is missing")
        content.append(part)
        data = opener.unused_data
        if kind != "gzip" or not data.startswith(_GZIP):
            return b"".join(content)
    raise FrameRefused("size", f"the {kind} data has more than {MAX_MEMBERS:,} members")
