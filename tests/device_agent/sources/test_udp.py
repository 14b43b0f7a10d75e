"""Datagrams on real sockets: of several senders, of a group, of strangers, and too many."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from msgspec import ValidationError, convert

from device_agent.sources.senders import MAX_SENDERS
from device_agent.sources.settings import SourceContext
from device_agent.sources.udp import RECEIVE_BUFFER_BYTES, UdpSettings
from tests.conditions import until
from tests.device_agent.collected import Collected, collected

GROUP = "239.192.7.61"


@asynccontextmanager
async def listening(host: str = "127.0.0.1", **settings: object) -> AsyncIterator[tuple[Collected, int]]:
    """A source that listens, and its port."""
    port = free_port()
    source = convert({"address": f"{host}:{port}", **settings}, UdpSettings).source(SourceContext("boat"))
    source._retry_s = 0.01
    async with collected(source) as found:
        await until(lambda: is_bound(port) or source.health.error)
        yield found, port


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        yield sender


async def test_each_datagram_is_complete(sender: socket.socket) -> None:
    """It has lines or one value, with or without a line end, and one that is broken costs itself."""
    async with listening() as (found, port):
        for data in (
            b"$IIHDT,274.07,T*14\r\n$IIHDT,90.0,T*1B\r\n", b"", b"$IIHDT,90.0,T*1C\r\n", b"$IIHDT,90.0,T*1B",
        ):  # fmt: skip
            sender.sendto(data, ("127.0.0.1", port))
        await found.until_values({"heading": 274.07}, {"heading": 90.0}, {"heading": 90.0})
    assert [refusal.code for refusal in found.refused] == ["checksum"]
    assert found.errors == [
        f"1 unreadable line, the last: {found.refused[0].reason} in '$IIHDT,90.0,T*1C\\r\\n'".replace("\\r\\n", "")
    ]


async def test_each_sender_has_its_own_format(sender: socket.socket) -> None:
    """A table of one device is not mixed with the lines of another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        async with listening() as (found, port):
            sender.sendto(b"time,t\n1795878000,1\n", ("127.0.0.1", port))
            other.sendto(b'{"a": 1}', ("127.0.0.1", port))
            for number in range(2, 6):
                sender.sendto(b"%d,%d" % (1795878000 + number, number), ("127.0.0.1", port))
            other.sendto(b'{"a": 2}', ("127.0.0.1", port))
            await until(lambda: len(found.values) == 7)
            assert found.counts.senders == 2
    assert [row["t"] for row in found.values if "t" in row] == [1, 2, 3, 4, 5]
    assert [row["a"] for row in found.values if "a" in row] == [1, 2]
    assert found.refused == []


async def test_first_lines_wait_for_others_of_their_sender_only(sender: socket.socket) -> None:
    """However much another sender sends meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        async with listening() as (found, port):
            found.source._reader._head_s = 0.2  # type: ignore[attr-defined]
            sender.sendto(b"t=1 h=40", ("127.0.0.1", port))
            while {"t": 1, "h": 40} not in found.values:
                other.sendto(b'{"a": 1}', ("127.0.0.1", port))
                await asyncio.sleep(0.02)


async def test_senders_are_bounded(sender: socket.socket) -> None:
    """Addresses can be forged: the sender that was silent for the longest time is forgotten, its lines are not."""
    async with listening() as (found, port):
        for number in range(MAX_SENDERS + 10):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"n=%d h=4" % number, ("127.0.0.1", port))
        await until(lambda: len(found.values) >= 10)
        assert found.counts.senders == MAX_SENDERS
        assert [row["n"] for row in found.values[:10]] == list(range(10))


async def test_a_group_is_joined(sender: socket.socket) -> None:
    """Datagrams to its address arrive; the interface is named by its address."""
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    async with listening("", group=GROUP, interface="127.0.0.1") as (found, port):
        assert found.source.health.error is None
        sender.sendto(b'{"a": 1}', (GROUP, port))
        await found.until_values({"a": 1})


async def test_strangers_are_ignored_and_counted(sender: socket.socket) -> None:
    """Also when they always send: other tasks have their time."""
    async with listening(allow=["192.0.2.0/24"]) as (found, port):
        for _ in range(5):
            sender.sendto(b'{"a": 1}', ("127.0.0.1", port))
        await until(lambda: found.counts.ignored == 5)
    assert (found.values, found.counts.lines) == ([], 0)


async def test_datagrams_that_the_system_discards_are_counted(sender: socket.socket) -> None:
    """The agent cannot read faster: the error of the source has the number."""
    async with listening() as (found, port):
        sender.sendto(b'{"a": 1}', ("127.0.0.1", port))
        await until(lambda: len(found.values) == 1)
        count = 3 * RECEIVE_BUFFER_BYTES // 30_000
        for _ in range(count):  # nothing is read meanwhile
            sender.sendto(b'{"a": 2}' + b" " * 30_000, ("127.0.0.1", port))
        while not found.counts.dropped:  # the source looks once a second, when something arrives
            sender.sendto(b'{"a": 3}', ("127.0.0.1", port))
            count += 1
            await asyncio.sleep(0.05)
        error = await found.until_error("datagrams were lost: they arrive faster than they are read")
        await until(lambda: found.counts.dropped + len(found.values) == count + 1)
    assert error.startswith(f"{found.counts.dropped:,} ")


async def test_a_port_that_is_used_is_a_failure_until_it_is_free(sender: socket.socket) -> None:
    """The error says so."""
    sender.bind(("127.0.0.1", 0))
    port = sender.getsockname()[1]
    source = UdpSettings(address=f"127.0.0.1:{port}").source(SourceContext("boat"))
    source._retry_s = 0.01
    async with collected(source) as found:
        await found.until_error("not listening: another program uses the port")
        sender.close()
        await until(lambda: source.health.error is None)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"address": "kitchen"}, "'kitchen' is not an address: write PORT or HOST:PORT"),
        ({"address": "1", "group": "10.0.0.1"}, "'10.0.0.1' is not a multicast group"),
        ({"address": "1", "group": "kitchen"}, "'kitchen' is not a multicast group"),
        ({"address": "1", "interface": "10.0.0.1"}, "interface is for a multicast group"),
        ({"address": "1", "allow": ["x"]}, "'x' is not a network"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, object], reason: str) -> None:
    """Each names the value and the form."""
    with pytest.raises(ValidationError, match=reason):
        convert(settings, UdpSettings)
