"""The registry: what the hub knows of credentials, devices, series and events, joined to one file and one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import apsw
import structlog

from hub.model.batch import Series
from hub.model.identity import Identity, Role
from hub.registry import event, fleet, token
from hub.registry.database import MAX_BYTES, data_version, hub_id, open_database
from hub.registry.errors import RegistryError
from hub.registry.fleet import Fleet, KnownDevice
from hub.registry.keyring import Keyring
from hub.registry.secret import Secret, digest
from hub.registry.token import Admin, Keys, NewToken, Session, Token
from hub.registry.writer import Writer
from wire.errors import WireError
from wire.model import Metric

POLL_SECONDS = 0.25
"""How often the file is asked whether another process changed it: a few microseconds. A revocation is promised to close
sockets within 5 s, and a new token should work by the time that the command which made it has ended."""

FLUSH_SECONDS = 1.0
"""How long events and last-seen times may wait to be written: at most one fsync a second for all of them."""

log = structlog.get_logger(__name__)


class Login(NamedTuple):
    """A browser that has just logged in: what its cookie is to hold, and for how long."""

    value: str
    max_age_s: int


class _Loaded(NamedTuple):
    hub_id: str
    fleet: Fleet
    keys: Keys


class _Facts(NamedTuple):
    """What waits to be written."""

    events: list[event.Event]
    devices: list[fleet.DeviceFacts]
    used: list[tuple[str, int]]


class Registry:
    """Opened by `async with`, and `run()` in a task of its own beside it. All calls come from one event loop.

    `path` is the file, made when it is missing; `clock` gives nanoseconds since 1970 UTC; `max_bytes` bounds the file.
    Methods that are not async cost no disk; what they change is written within FLUSH_SECONDS, and on closing.
    `id` is the hub's own, random id.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns, max_bytes: int = MAX_BYTES) -> None:
        self.id = ""
        self._clock = clock
        self._writer = Writer(partial(open_database, path, max_bytes=max_bytes))
        self._fleet = Fleet()
        self._keyring = Keyring()
        self._version = 0
        self._events = event.PendingEvents()
        self._wake = asyncio.Event()
        self._is_failing = False

    async def __aenter__(self) -> Self:
        """Raises RegistryError when the file cannot be opened."""
        try:
            await self._writer.open()
            loaded = await self._writer.read(_load)
        except BaseException:
            await self._writer.close()
            raise
        self.id = loaded.hub_id
        self._fleet = loaded.fleet
        self._take_over(loaded.keys)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._flush(to_the_end=True)
        except RegistryError as failure:
            log.error("events were lost when the registry was closed", events=len(self._events), error=failure.message)
        finally:
            await self._writer.close()

    async def run(self, on_ended: Callable[[frozenset[str]], None]) -> None:
        """Follows the file and writes what waits, until cancelled.

        `on_ended` is told the ids of tokens that were revoked (by this process: at once; by another: within
        POLL_SECONDS) or have expired; whoever holds a connection of theirs has to close it.
        """
        loop = asyncio.get_running_loop()
        flush_at = loop.time() + FLUSH_SECONDS
        while True:
            try:
                await self.refresh()
                if loop.time() >= flush_at:
                    flush_at = loop.time() + FLUSH_SECONDS
                    await self._flush()
                    self._is_failing = False
            except RegistryError as error:
                # Nothing is lost yet: what waits is kept and tried again. Said once, not every quarter of a second.
                if not self._is_failing:
                    log.error("the registry cannot be read or written", error=error.message)
                self._is_failing = True
            ended = self._keyring.take_ended(self._clock())
            if ended:
                on_ended(ended)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    # Who may come in.

    def verify(self, text: str) -> Identity | None:
        """Whose token this is; None for what is none, was revoked or has expired. No disk."""
        return self._keyring.verify(text, self._clock())

    def verify_session(self, value: str) -> Identity | None:
        """Whom a page's cookie stands for; None when it is unknown, too old, or its token has ended. No disk."""
        return self._keyring.verify_session(value, self._clock())

    async def refresh(self) -> None:
        """Takes over now what other processes have changed; worth a try before a token is refused."""
        await self._writer.read(self._read_changed, self._take_over)

    def tokens(self) -> list[Token]:
        """Every token, the oldest first, with its last use as known in this process."""
        return self._keyring.tokens()

    async def ensure_admin(self) -> Admin:
        """The token that the one-time URLs of the hub's owner stand for; made when there is none."""
        now_ns = self._clock()
        found = await self._writer.write(partial(token.ensure_admin, now_ns=now_ns), self._take_over_new)
        return Admin(found.id, None) if isinstance(found, Token) else Admin(found.token.id, found.text)

    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken:
        """Makes a token, valid when this returns. Raises RegistryError: BAD_MESSAGE (pattern or label), TOO_MANY."""
        now_ns = self._clock()
        return await self._writer.write(
            lambda connection: token.insert_token(
                connection, role, now_ns, pattern=pattern, label=label, expires_ns=expires_ns
            ),
            self._take_over_new,
        )

    async def revoke(self, ids: Iterable[str]) -> list[str]:
        """Revokes tokens and all that hangs on them; returns the ids of those that there were."""
        named, now_ns = list(ids), self._clock()
        return await self._writer.write(
            lambda connection: token.delete_tokens(connection, named, now_ns), self._take_over_revoked
        )

    async def create_login_code(self, token_id: str) -> str:
        """A code that logs one browser in, once, within LOGIN_CODE_SECONDS, with the rights of this token.

        Raises RegistryError(BAD_MESSAGE) when there is no such token.
        """
        now_ns = self._clock()
        return await self._writer.write(lambda connection: token.insert_login_code(connection, token_id, now_ns))

    async def redeem(self, code: str) -> Login | None:
        """Uses a login code up; None when it is unknown, used, too old, or its token has ended."""
        now_ns = self._clock()
        redeemed = await self._writer.write(
            lambda connection: token.redeem_login_code(connection, code, now_ns), self._take_over_session
        )
        if redeemed is None:
            return None
        value = redeemed[0].text
        if self.verify_session(value) is None:  # its token may be one that another process made just now
            await self.refresh()
            if self.verify_session(value) is None:
                return None
        return Login(value, token.SESSION_SECONDS)

    async def end_session(self, value: str) -> None:
        """Logs a browser out."""
        session = digest(value)
        await self._writer.write(
            lambda connection: token.delete_session(connection, session),
            lambda _: self._keyring.remove_session(session),
        )

    # What there is.

    @property
    def devices(self) -> Mapping[str, KnownDevice]:
        """Every device that was ever declared, by id; live, only to be read."""
        return self._fleet.devices

    @property
    def series(self) -> Mapping[int, Series]:
        """Every series by its id; live, only to be read."""
        return self._fleet.series

    def tags_of(self, device: str) -> Mapping[str, str]:
        """What the device's agent said of it, as it is now; nothing of a device that was never declared."""
        known = self._fleet.devices.get(device)
        return known.tags if known is not None else {}

    async def declare(self, device: str, metrics: Sequence[Metric]) -> dict[str, Series | WireError]:
        """All metrics of the device, what is new among these durable when this returns; no write when nothing is.

        One that is declared with another type than the hub knows is a WireError(TYPE_CONFLICT); the first type stays.
        Units and descriptions follow the newest declaration. Raises RegistryError: TOO_MANY, STORAGE_FULL,
        STORAGE_FAILED, BUSY.
        """
        news = self._fleet.news(device, metrics)
        if news is not None:
            now_ns = self._clock()
            await self._writer.write(
                lambda connection: fleet.declare(connection, device, news, now_ns), self._fleet.apply
            )
        return self._fleet.answer(device, metrics)

    async def reserve_series(self, highest: int) -> None:
        """Gives out no series id up to this one any more; durable when this returns. Raises RegistryError."""
        if highest > max(self._fleet.series, default=0):
            await self._writer.write(lambda connection: fleet.reserve_series(connection, highest))

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keeps what an agent says of itself. KeyError for a device that was not declared."""
        self._fleet.describe(device, tags, agent)

    def seen(self, device: str, time_ns: int) -> None:
        """The device was there at this time, by the hub's clock. KeyError for one that was not declared."""
        self._fleet.seen(device, time_ns)

    async def retire(self, devices: Sequence[str]) -> None:
        """Takes devices out of service, durable when this returns: they do not count any more, all that was declared
        stays known. KeyError for one that was not declared. Raises RegistryError."""
        known, now_ns = [self._fleet.devices[id].id for id in devices], self._clock()
        await self._writer.write(
            lambda connection: fleet.retire(connection, known, now_ns), lambda _: self._fleet.retire(known, now_ns)
        )

    def restore(self, device: str) -> None:
        """Puts a device back into service. KeyError for one that was not declared."""
        self._fleet.restore(device)

    @property
    def fullness(self) -> str | None:
        """What to do, once no new device or series can be declared; None while there is room."""
        if self._fleet.in_service >= fleet.MAX_DEVICES:
            return f"the hub knows {fleet.MAX_DEVICES} devices and takes no more: retire some with `hub device retire`"
        if len(self._fleet.series) >= fleet.MAX_SERIES:
            return f"the hub knows {fleet.MAX_SERIES} series and takes no more"
        if len(self._fleet.devices) >= fleet.MAX_DEVICES_EVER:
            return f"the hub remembers {fleet.MAX_DEVICES_EVER} devices and takes no more"
        return None

    # What happened.

    def record_event(self, device: str | None, time_ns: int, kind: str, detail: str = "") -> None:
        """Keeps an event of a device or (None) of the hub itself; for the bounds see hub.registry.event."""
        self._events.add(device, time_ns, kind, detail)

    @property
    def dropped_events(self) -> int:
        """Events that are lost because the disk refused them for too long."""
        return self._events.dropped

    async def events(
        self, device: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> list[event.Event]:
        """The newest events first, of one device or (None) of all and the hub; at most `limit`, and MAX_PAGE.

        With `before`, an event's id, only older ones. Those recorded just now are among them.
        """
        with suppress(RegistryError):  # run() says that the disk is full; what is on it can still be read
            await self._flush()
        return await self._writer.read(
            lambda connection: event.select_events(connection, device, limit=limit, before=before)
        )

    # The memory follows the file: called in the event loop, in the order of commits, whoever waits or does not.

    def _take_over(self, keys: Keys | None) -> None:
        if keys is not None:
            self._version = keys.version
            self._keyring.replace(keys.tokens, keys.sessions)
            self._wake.set()

    def _take_over_new(self, found: Token | NewToken) -> None:
        if isinstance(found, NewToken):
            self._keyring.add(found.token, found.digest)

    def _take_over_revoked(self, ids: list[str]) -> None:
        self._keyring.remove(ids)
        self._wake.set()

    def _take_over_session(self, redeemed: tuple[Secret, Session] | None) -> None:
        if redeemed is not None:
            self._keyring.add_session(redeemed[1])

    def _read_changed(self, connection: apsw.Connection) -> Keys | None:
        """In the writer's thread: everything, if another connection has committed since the last look."""
        return None if data_version(connection) == self._version else token.select_keys(connection)

    async def _flush(self, *, to_the_end: bool = False) -> None:
        facts = _Facts(self._events.take(), self._fleet.take_facts(to_the_end=to_the_end), self._keyring.take_used())
        if not any(facts):
            return
        written = self._writer.write(partial(_write_facts, facts=facts))
        # By callback and shielded: it counts also when whoever flushes is cancelled meanwhile.
        written.add_done_callback(lambda future: self._keep_waiting(facts) if future.exception() else None)
        await asyncio.shield(written)

    def _keep_waiting(self, facts: _Facts) -> None:
        self._events.give_back(facts.events)
        self._fleet.give_back(facts.devices)


def _load(connection: apsw.Connection) -> _Loaded:
    return _Loaded(hub_id(connection), fleet.select_fleet(connection), token.select_keys(connection))


def _write_facts(connection: apsw.Connection, facts: _Facts) -> None:
    event.insert_events(connection, facts.events)
    fleet.update_facts(connection, facts.devices)
    token.update_used(connection, facts.used)
