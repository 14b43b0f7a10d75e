"""A reverse proxy that is configured wrongly: it removes WebSocket upgrades, changes the Host, or answers by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from urllib.parse import urlsplit

HEAD_BYTES = 64 * 1024

Header = tuple[str, str]


class AlteringProxy:
    """A proxy in front of `target`. Each request has a connection of its own, so that each head is altered.

    `alter` receives the headers of a request and returns those that the target receives. `answer`, if it is set, is
    sent instead of the target's answer. Both may be replaced while the proxy runs.
    """

    def __init__(self, target: str, alter: Callable[[list[Header]], list[Header]] | None = None) -> None:
        self.alter = alter or (lambda headers: headers)
        self.answer: bytes | None = None
        self.url = ""
        self._target = urlsplit(target)
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client in a task."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End every connection."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                line, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
                if self.answer is not None:
                    writer.write(self.answer)
                    await writer.drain()
                    return
                headers = self.alter(headers)
                if not any(name.lower() == "upgrade" for name, _ in headers):
                    headers = [*without(headers, "connection"), ("Connection", "close")]
                up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            with contextlib.closing(up_writer):
                up_writer.write(f"{line}\r\n{''.join(f'{n}: {v}{chr(13)}{chr(10)}' for n, v in headers)}\r\n".encode())
                await _until_one_ends(_copy(reader, up_writer), _copy(up_reader, writer))


def parse_head(head: bytes) -> tuple[str, list[Header]]:
    """Return the request line and the headers."""
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return line, [(name, value.strip()) for name, _, value in (header.partition(":") for header in lines)]


def without(headers: Sequence[Header], *names: str) -> list[Header]:
    """Return the headers except those with one of these names, in lower case."""
    return [header for header in headers if header[0].lower() not in names]


def without_upgrade(headers: list[Header]) -> list[Header]:
    """Remove the headers of one hop, as a proxy does that does not know WebSockets."""
    return without(headers, "upgrade", "connection")


@contextlib.asynccontextmanager
async def altering_proxy(
    target: str, alter: Callable[[list[Header]], list[Header]] | None = None
) -> AsyncIterator[AlteringProxy]:
    """Run a proxy on a free port."""
    proxy = AlteringProxy(target, alter)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=HEAD_BYTES)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(HEAD_BYTES):
            writer.write(data)
            await writer.drain()


async def _until_one_ends(*directions: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.create_task(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
