"""The registry: credentials, devices, series and events in memory, backed by one file and one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import apsw
import structlog

from hub.model.batch import Series
from hub.model.event import Event
from hub.model.identity import BrowserSession, Identity, NewSession, NewToken, Role, RotatedToken, Token
from hub.model.journal import JournalPosition
from hub.model.metric import MetricChange
from hub.registry import event, fleet, hub_run, token
from hub.registry.command import CommandTable
from hub.registry.command_job import CommandJobTable
from hub.registry.database import MAX_BYTES, RegistryError, RegistryThread, data_version, hub_id, open_database
from hub.registry.desired import DesiredTable
from hub.registry.fleet import Fleet, KnownDevice
from hub.registry.keyring import USED_RESOLUTION_NS, Keyring
from hub.registry.last_state import RegistryState, current_state, find_loss, read_state, write_state
from hub.registry.metric_edit import change_metric
from hub.registry.repair import Repair
from hub.registry.token import AdminToken, Credentials, OpenedSession, PageSession
from integrity.open_file import OpenFile
from wire.errors import WireError
from wire.model import Metric

POLL_SECONDS = 0.25
"""Interval of the check whether another process changed the file, which takes a few microseconds. A revocation must
close connections within 5 s, and a new token should work when the command that created it has ended."""

FLUSH_SECONDS = 1.0
"""Interval at which events and contacts are stored: at most one fsync a second for all of them."""

MAX_STORED_USES = 500
"""Last uses of tokens in one write; the others follow with the next ones. 10,000 updates in one write took 0.7 s, for
which a new device would wait; in writes of this size they are stored within 20 seconds."""

log = structlog.get_logger(__name__)


class Registry:
    """Credentials, devices, series and events of a hub. Open it with `async with`, and run `run()` in a task.

    `path` is the file, created if it is missing; `clock` returns nanoseconds since 1970 UTC; `max_bytes` bounds the
    file. `id` is the random id of the hub. All calls come from one event loop. Methods that are not async cost no disk
    access; their changes are stored within FLUSH_SECONDS and on closing.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns, max_bytes: int = MAX_BYTES) -> None:
        self.id = ""
        self._path = path
        self._last_state: RegistryState | None = None
        self._state_write: asyncio.Task[None] | None = None
        self._loss: str | None = None
        self.was_replaced = False
        """True if another registry was in the place of this file when its hub ran last."""
        self._clock = clock
        self._repairs: list[Repair] = []
        self._thread = RegistryThread(partial(open_database, path, max_bytes=max_bytes, report=self._repairs.append))
        self._fleet = Fleet()
        self.commands = CommandTable(self._thread, clock)
        """The commands to devices, and those that the devices declare."""
        self.desired = DesiredTable(self._thread, clock)
        """The desired values of devices, and the settings that the devices declare."""
        self.command_jobs = CommandJobTable(self._thread, clock)
        """The jobs: commands to many devices."""
        self._keyring = Keyring()
        self._version = 0
        self._events = event.PendingEvents()
        self._series_watchers: list[Callable[[Series], None]] = []
        self._wake = asyncio.Event()
        self._failure: str | None = None
        self._file: OpenFile | None = None
        self.file_problem: str | None = None
        """Loss of the open file, and what to do; None if it has its name and its bytes."""
        self._counted_ns = clock()
        """When the open connections were counted as uses of their tokens."""
        self._renewed_ns: int | None = None
        """When the run was recorded last; None: this process did not begin one."""
        self.journal: JournalPosition | None = None
        """The journal that the hub wrote last, with an offset that it had reached."""
        self.events_journal: JournalPosition | None = None
        """The journal, and the offset up to which the events of its devices are stored; None if it is not known."""
        self._journal_position: Callable[[], JournalPosition] | None = None

    async def __aenter__(self) -> Self:
        """Open the file. Raises RegistryError."""
        try:
            await self._thread.open()
            self._file = OpenFile(self._path)
            self.id = await self._thread.read(hub_id)
            self.journal = await self._thread.read(hub_run.select_journal)
            self.events_journal = await self._thread.read(hub_run.select_events_journal)
            self._fleet = await self._thread.read(fleet.select_fleet)
            await self._thread.read(token.select_credentials, self._apply_credentials)
            await self._thread.read(self._compare_state)
            await self.commands.open()
            await self.desired.open()
            await self.command_jobs.open()
        except BaseException:
            await self._thread.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._flush(everything=True)
            if self._renewed_ns is not None:
                await self._thread.write(hub_run.end)
            await self._record_state()
        except RegistryError as failure:
            log.error("registry closed without storing events", lost_events=len(self._events), error=failure.message)
        finally:
            await self._thread.close()

    async def run(self, on_ended: Callable[[frozenset[str]], None], connected: Callable[[], Iterable[str]]) -> None:
        """Follow the file and store waiting changes, until cancelled.

        `on_ended` receives the ids of tokens that were revoked or have expired, and those of ended sessions: at once if
        this process ended them, within POLL_SECONDS otherwise. It must close their connections. `connected` returns the
        ids of the tokens with an open connection: each minute of it counts as a use.
        """
        loop = asyncio.get_running_loop()
        flush_at = loop.time() + FLUSH_SECONDS
        while True:
            try:
                await self.refresh()
                if self._clock() - self._counted_ns >= USED_RESOLUTION_NS:
                    self._counted_ns = self._clock()
                    self._keyring.record_use(connected(), self._counted_ns)
                if loop.time() >= flush_at:
                    flush_at = loop.time() + FLUSH_SECONDS
                    self._compare_file()
                    await self._flush()
                    await self._record_state()
                    self._failure = None
            except RegistryError as error:
                # Nothing is lost: the changes wait in memory. Log it once, not four times a second.
                if self._failure is None:
                    log.error("registry unavailable, retrying", error=error.message)
                self._failure = error.message
            ended = self._keyring.drain_ended(self._clock())
            if ended:
                on_ended(ended)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def begin_run(self, last_commit_ns: int) -> hub_run.UncleanEnd | None:
        """Record the start of the hub; return the end of the previous run if that was not stopped in order.

        `last_commit_ns` is when the journal's newest entry was received, 0 for none. Closing the registry ends the run.
        """
        now_ns = self._clock()
        ended = await self._thread.write(lambda connection: hub_run.begin(connection, now_ns, last_commit_ns))
        self._renewed_ns = now_ns
        return ended

    async def follow_journal(self, position: Callable[[], JournalPosition]) -> None:
        """Record this position now, with the waiting events, with each record of the run, and when the registry closes.

        A journal that does not reach the recorded offset at the next start has lost entries. Each write of events
        records up to which offset they are stored, `events_journal` at the next start. Raises RegistryError.
        """
        self._journal_position = position
        await self._flush(begins=True)

    # Credentials.

    def verify(self, text: str) -> Identity | None:
        """Return the identity of a token; None if it is unknown, revoked or expired. Costs no disk access."""
        return self._keyring.verify(text, self._clock())

    def verify_session(self, value: str) -> Identity | None:
        """Return the identity of a page's cookie; None if it is unknown or expired, or its token has ended."""
        return self._keyring.verify_session(value, self._clock())

    async def refresh(self) -> None:
        """Read changes of other processes now. Call it before a token is rejected."""
        await self._thread.read(self._read_changes, self._apply_credentials)

    def tokens(self) -> list[Token]:
        """Return every token, the oldest first, with its last use in this process."""
        return self._keyring.tokens()

    async def ensure_admin(self) -> AdminToken:
        """Return the oldest admin token. Create one if there is none."""
        now_ns = self._clock()
        found = await self._thread.write(partial(token.ensure_admin, now_ns=now_ns), self._apply_new_token)
        return AdminToken(found.id, None) if isinstance(found, Token) else AdminToken(found.token.id, found.text)

    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken:
        """Create a token; it is valid on return. Raises RegistryError: BAD_MESSAGE (pattern or label), TOO_MANY."""
        now_ns = self._clock()
        return await self._thread.write(
            lambda connection: token.insert_token(
                connection, role, now_ns, pattern=pattern, label=label, expires_ns=expires_ns
            ),
            self._apply_new_token,
        )

    async def rotate_token(self, id: str, overlap_ns: int) -> RotatedToken:
        """Replace a token; the old one expires after `overlap_ns`. Raises RegistryError: BAD_MESSAGE, TOO_MANY."""
        now_ns = self._clock()
        return await self._thread.write(
            lambda connection: token.rotate_token(connection, id, now_ns, overlap_ns), self._apply_rotation
        )

    async def revoke(self, ids: Iterable[str]) -> list[str]:
        """Revoke tokens with their sessions and codes. Return the ids that existed."""
        named, now_ns = list(ids), self._clock()
        return await self._thread.write(
            lambda connection: token.delete_tokens(connection, named, now_ns), self._apply_revocation
        )

    async def create_login_code(self, token_id: str) -> str:
        """Create a code that logs one browser in, once, within LOGIN_CODE_SECONDS, with the rights of this token.

        Raises RegistryError(BAD_MESSAGE) if there is no such token.
        """
        now_ns = self._clock()
        return await self._thread.write(lambda connection: token.insert_login_code(connection, token_id, now_ns))

    async def redeem(self, code: str) -> NewSession | None:
        """Use a login code; None if it is unknown, used or expired, or its token has ended."""
        now_ns = self._clock()
        return await self._open_session(lambda connection: token.redeem_login_code(connection, code, now_ns))

    async def open_session(self, token_id: str) -> NewSession | None:
        """Log a browser in with the rights of this token; None if the token has ended."""
        now_ns = self._clock()
        return await self._open_session(lambda connection: token.insert_session(connection, token_id, now_ns))

    async def _open_session(self, write: Callable[[apsw.Connection], OpenedSession | None]) -> NewSession | None:
        opened = await self._thread.write(write, self._apply_session)
        if opened is None:
            return None
        value = opened.secret.text
        if self.verify_session(value) is None:  # another process may have created its token just now
            await self.refresh()
            if self.verify_session(value) is None:
                return None
        return NewSession(value, token.SESSION_SECONDS)

    def sessions(self) -> list[BrowserSession]:
        """Return every signed-in browser, the oldest first, with its last use in this process."""
        return self._keyring.sessions(self._clock())

    async def end_session(self, id: str) -> bool:
        """Log a browser out and close its connections. Return whether there was such a session."""
        session = self._keyring.find_session(id)
        if session is None:
            return False
        await self._thread.write(
            lambda connection: token.delete_session(connection, session.digest),
            lambda _: self._apply_session_end(session),
        )
        return True

    # Devices and series.

    @property
    def devices(self) -> Mapping[str, KnownDevice]:
        """Every device that was ever declared, by id. A live view, read only."""
        return self._fleet.devices

    @property
    def series(self) -> Mapping[int, Series]:
        """Every series by its id. A live view, read only."""
        return self._fleet.series

    def tags_of(self, device: str) -> Mapping[str, str]:
        """Return the current tags of a device; none for a device that was never declared."""
        known = self._fleet.devices.get(device)
        return known.tags if known is not None else {}

    async def declare(self, device: str, metrics: Sequence[Metric]) -> dict[str, Series | WireError]:
        """Declare metrics and return all series of the device. New ones are durable on return; no news, no write.

        An integer metric that is declared as float becomes a float metric. One declared with another type that the
        stored one has no room for is a WireError(TYPE_CONFLICT); the stored type stays. Units and descriptions follow
        the latest declaration, except for those that a person has set. Raises RegistryError: TOO_MANY, STORAGE_FULL,
        STORAGE_FAILED, BUSY.
        """
        new = self._fleet.undeclared(device, metrics)
        if new is not None:
            now_ns = self._clock()
            await self._thread.write(
                lambda connection: fleet.declare(connection, device, new, now_ns), self._apply_declared
            )
        return self._fleet.declared(device, metrics)

    async def change_metric(self, device: str, metric: str, change: MetricChange) -> Series:
        """Change what a person may change about a metric; durable on return. Return the changed series.

        Raises KeyError for an unknown device or metric, and RegistryError: BAD_MESSAGE (the name is taken), TOO_MANY.
        """
        known = self._fleet.devices[device]

        def store(connection: apsw.Connection) -> fleet.DeclaredRows:
            row = change_metric(connection, known.row, metric, change)
            return fleet.DeclaredRows((known.row, known.id, known.first_seen_ns), [row])

        rows = await self._thread.write(store, self._apply_change)
        return self._fleet.series[rows.series[0].id]

    def declared_unit(self, device: str, metric: str) -> str:
        """Return the unit that a metric of a device was declared with, "" if there is none or a person has set it."""
        return self._fleet.declared_unit(device, metric)

    def watch_series(self, watcher: Callable[[Series], None]) -> None:
        """Call `watcher` with each known series whose name, type, unit or description changed."""
        self._series_watchers.append(watcher)

    def _apply_declared(self, rows: fleet.DeclaredRows) -> None:
        for series, type, unit in self._apply_series(rows):
            if series.type != type:
                detail = f"{series.metric} was {type} and is {series.type} now: the device sends such values"
                self.record_event(series.device, self._clock(), "metric widened", detail)
            if unit and series.unit != unit:
                detail = (
                    f"{series.metric} was declared with {unit} and is declared with {series.unit or 'no unit'} now: "
                    "earlier values are shown with it, too, and are not converted"
                )
                self.record_event(series.device, self._clock(), "unit changed", detail)

    def _apply_change(self, rows: fleet.DeclaredRows) -> None:
        self._apply_series(rows)

    def _apply_series(self, rows: fleet.DeclaredRows) -> list[fleet.ChangedSeries]:
        changed = self._fleet.apply(rows)
        for series, *_ in changed:
            for watcher in self._series_watchers:
                watcher(series)
        return changed

    async def reserve_series(self, highest: int) -> None:
        """Reserve this series id and all lower ones; durable on return. Raises RegistryError."""
        if highest > max(self._fleet.series, default=0):
            await self._thread.write(lambda connection: fleet.reserve_series(connection, highest))

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Record the tags and the version of an agent. Raises KeyError for a device that was not declared."""
        self._fleet.describe(device, tags, agent)

    def record_contact(self, device: str, time_ns: int) -> None:
        """Record a contact with a device, by the hub's clock. Raises KeyError for a device that was not declared."""
        self._fleet.record_contact(device, time_ns)

    async def retire(self, devices: Sequence[str]) -> None:
        """Retire devices; durable on return. They no longer count, their series stay.

        Raises KeyError for a device that was not declared, and RegistryError.
        """
        known, now_ns = [self._fleet.devices[id].id for id in devices], self._clock()
        await self._thread.write(
            lambda connection: fleet.retire(connection, known, now_ns), lambda _: self._fleet.retire(known, now_ns)
        )

    def restore(self, device: str) -> None:
        """Put a device back into service. Raises KeyError for a device that was not declared."""
        self._fleet.restore(device)

    @property
    def problem(self) -> str | None:
        """Return that changes cannot be stored, that rows were lost, or that there is no room; None if all is well."""
        if self._failure is not None:
            return f"{self._failure}. Devices, tokens and events that change meanwhile wait in memory"
        lossy = [str(repair) for repair in self._repairs if repair.lost_anything]
        return lossy[-1] if lossy else self._loss or self.fullness

    @property
    def fullness(self) -> str | None:
        """The remedy if no new device or series can be declared; None while there is room."""
        if self._fleet.in_service >= fleet.MAX_DEVICES:
            return f"the hub has {fleet.MAX_DEVICES} devices, the maximum: retire unused ones with `hub device retire`"
        if len(self._fleet.series) >= fleet.MAX_SERIES:
            return f"the hub has {fleet.MAX_SERIES} series, the maximum: no new metric can be declared"
        if len(self._fleet.devices) >= fleet.MAX_DEVICES_EVER:
            return f"the hub has {fleet.MAX_DEVICES_EVER} devices including retired ones, the maximum"
        return None

    # Events.

    def record_event(self, device: str | None, time_ns: int, kind: str, detail: str = "") -> None:
        """Record an event of a device or (None) of the hub itself, within the bounds in hub.registry.event."""
        self._events.add(device, time_ns, kind, detail)

    @property
    def dropped_events(self) -> int:
        """Number of events lost because the disk failed for too long."""
        return self._events.dropped

    async def events(
        self, device: str | None = None, *, limit: int = 100, before: int | None = None, of_hub: bool = False
    ) -> list[Event]:
        """Return events, the newest first, of one device, of the hub itself (`of_hub`), or of all devices and the hub.

        Returns at most `limit` and MAX_PAGE events, recent ones included. `before` is the id of an event: only older
        events are returned.
        """
        with suppress(RegistryError):  # run() logs a full disk; stored events can still be read
            await self._flush()
        return await self._thread.read(
            lambda connection: event.select_events(connection, device, limit=limit, before=before, of_hub=of_hub)
        )

    # The memory follows the file: these run in the event loop in the order of commits, even if a caller is cancelled.

    def _apply_credentials(self, found: Credentials | None) -> None:
        if found is not None:
            self._version = found.version
            self._keyring.replace(found.tokens, found.sessions)
            self._wake.set()

    def _apply_new_token(self, found: Token | NewToken) -> None:
        if isinstance(found, NewToken):
            self._keyring.add(found.token, found.digest)

    def _apply_rotation(self, rotated: RotatedToken) -> None:
        self._keyring.add(rotated.new.token, rotated.new.digest)
        self._keyring.expire(rotated.old_id, rotated.old_expires_ns)

    def _apply_revocation(self, ids: list[str]) -> None:
        self._keyring.remove(ids)
        self._wake.set()

    def _apply_session(self, opened: OpenedSession | None) -> None:
        if opened is not None:
            self._keyring.add_session(opened.session, opened.ended)
            if opened.ended:
                self._wake.set()

    def _apply_session_end(self, session: PageSession) -> None:
        self._keyring.remove_session(session.digest)
        self._wake.set()

    def _read_changes(self, connection: apsw.Connection) -> Credentials | None:
        """Return all credentials if another connection has committed since the last read. Runs in the thread."""
        return None if data_version(connection) == self._version else token.select_credentials(connection)

    def _compare_state(self, connection: apsw.Connection) -> None:
        """Find out whether the file was lost or is an older copy. Runs in the thread."""
        now, last = current_state(connection), read_state(self._path)
        self._loss = find_loss(now, last)
        self.was_replaced = last is not None and last.hub != now.hub
        if self._loss is not None:
            log.error("registry was lost or restored from a copy", loss=self._loss)
            self._events.add(None, self._clock(), "registry lost or restored", self._loss)

    def _compare_file(self) -> None:
        """Find out whether the open file still has its name, and report once that it does not."""
        found = self._file.problem() if self._file is not None else None
        if found is None or self.file_problem is not None:
            return
        self.file_problem = (
            f"{found}: devices, tokens and events that change now are lost at the next start. Stop the hub, restore "
            "registry.db from a backup, and start it"
        )
        log.error("registry file lost", problem=self.file_problem)
        self._events.add(None, self._clock(), "registry file lost", self.file_problem)

    async def _record_state(self) -> None:
        """Record the state beside the file if it has changed. Not in the thread of the registry: to replace a file took
        5 to 12 ms of each second, and commands waited for it."""
        if self._state_write is not None:
            # That of a caller that was cancelled.
            await asyncio.wait((self._state_write,))
        state = await self._thread.read(current_state)
        # The record of a file that is gone shows at the next start what the new one lacks.
        if state == self._last_state:
            return
        self._last_state = state
        self._state_write = asyncio.create_task(asyncio.to_thread(write_state, self._path, state))
        try:
            await asyncio.shield(self._state_write)
        except OSError as error:
            log.warning("state of the registry cannot be recorded", error=error.strerror)

    async def _flush(self, *, everything: bool = False, begins: bool = False) -> None:
        events = self._events.drain()
        facts = self._fleet.drain_facts(everything=everything)
        used = self._keyring.drain_used(None if everything else MAX_STORED_USES)
        now_ns = self._clock()
        renews = self._renewed_ns is not None and now_ns - self._renewed_ns >= hub_run.RENEWAL_NS
        # In the turn in which the events were taken: those of entries behind this offset come with a later write.
        journal = self._journal_position() if self._journal_position is not None else None
        records_journal = (renews or everything or begins) and journal is not None
        if not (records_journal or events or facts or used or renews):
            return
        if renews:
            self._renewed_ns = now_ns

        def store(connection: apsw.Connection) -> None:
            event.insert_events(connection, events)
            fleet.update_facts(connection, facts)
            token.update_used(connection, used)
            if renews:
                hub_run.renew(connection, now_ns)
            if journal is not None and records_journal:
                hub_run.record_journal(connection, journal)
            if journal is not None:
                hub_run.record_events(connection, journal)

        def restore_after_failure(stored: asyncio.Future[None]) -> None:
            if stored.exception() is not None:
                self._events.restore(events)
                self._fleet.restore_facts(facts)

        # A callback and a shield: the write completes also if the caller is cancelled meanwhile.
        stored = self._thread.write(store)
        stored.add_done_callback(restore_after_failure)
        await asyncio.shield(stored)
