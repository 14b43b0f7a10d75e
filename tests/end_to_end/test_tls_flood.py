"""Floods of connections, handshakes and records against a real hub that speaks TLS: other devices are not delayed."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.certificates import LOOPBACK, Authority
from tests.end_to_end.hub import Hub
from tests.end_to_end.tls_hub import tls_hub
from tests.end_to_end.witness import MAX_PROCESSOR, check_not_delayed, churning, flooding, flooding_with_records


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    async with tls_hub(folder, Authority(folder / "authority").issue("hub", *LOOPBACK)) as hub:
        yield hub


def client_hello() -> bytes:
    """Return the first message of a handshake. It costs its sender nothing more, and the hub a key and a signature."""
    outgoing = ssl.MemoryBIO()
    connection = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.deadline(90)
async def test_handshakes_do_not_delay_a_device(hub: Hub) -> None:
    """Complete ones, those that are reset after their first message, and many that continue with an invalid one."""
    hello = client_hello()
    floods = {
        "complete": partial(churning, hub, b"", uses_tls=True),
        "reset": partial(churning, hub, hello),
        "invalid": partial(flooding, hub, hello, hello, connections=64),
    }
    await check_not_delayed(hub, floods, max_processor=MAX_PROCESSOR)


@pytest.mark.deadline(90)
async def test_records_without_data_do_not_delay_a_device(hub: Hub) -> None:
    """Updates of the key, alone and between records of one byte, from a client without a token."""
    floods = {kind: partial(flooding_with_records, hub, kind) for kind in ("updates", "mixed")}
    await check_not_delayed(hub, floods, max_processor=MAX_PROCESSOR)
