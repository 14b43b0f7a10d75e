"""The upload of a file through the client of the device protocol."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path

import pytest

from importer import batching, upload
from importer.records import UploadError
from importer.survey import FileSurvey
from importer.upload import Interrupted, Upload, UploadEvents, UploadTarget, check
from tests.device_agent.peer import Peer
from tests.importer.files import surveyed
from wire import device
from wire.errors import Code

LINES = "".join(f"m,device=boiler x={number} {number}\n" for number in range(1, 101))


class Log:
    """The events of one upload."""

    def __init__(self) -> None:
        self.stored: list[tuple[int, bool]] = []
        self.rejected: list[int] = []
        self.troubles: list[str] = []

    def events(self) -> UploadEvents:
        return UploadEvents(
            lambda readings, before: self.stored.append((readings, before)),
            lambda batch, reject: self.rejected.append(batch.seq),
            self.troubles.append,
        )


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSurvey:
    """Return a file of a hundred readings of one device, in ten slices of one batch each."""
    monkeypatch.setattr(batching, "SLICE_READINGS", 10)
    monkeypatch.setattr(upload, "MAX_DELAY_MS", 20)
    return surveyed(tmp_path / "past.lp", LINES)[0]


async def send(peer: Peer, survey: FileSurvey) -> Log:
    log = Log()
    async with Upload(UploadTarget.at(peer.url, "token", "import"), survey, log.events()) as running:
        await running.run()
    return log


async def test_a_file_is_stored_once_however_often_it_is_sent(survey: FileSurvey) -> None:
    """The import introduces itself as a guest; a second upload reports that everything was there before."""
    async with Peer() as peer:
        assert (await send(peer, survey)).stored == [(10, False)] * 10
        assert (await send(peer, survey)).stored == [(10, True)] * 10
        assert all(hello.guest for hello in peer.hellos)
        assert peer.values("x") == list(range(1, 101))
        peer.check_order()


@pytest.mark.parametrize("code", [Code.BUSY, Code.SUPERSEDED])
async def test_a_hub_that_is_busy_with_the_device_is_waited_for(survey: FileSurvey, code: Code) -> None:
    """A temporary error, and a device that is connected itself, delay the upload; it reports the reason."""
    async with Peer() as peer:
        peer.greeting = device.Error(code, "not now")

        async def relent() -> None:
            await peer.until(lambda: len(peer.hellos) >= 2)
            peer.greeting = None

        relenting = asyncio.create_task(relent())
        log = await send(peer, survey)
        await relenting
    assert log.troubles[0] == f"not now ({code})"
    assert log.troubles[-1] == ""
    assert sum(readings for readings, _ in log.stored) == 100


async def test_a_rejected_batch_is_reported(survey: FileSurvey) -> None:
    """A batch in quarantine is reported with its number, and the upload continues."""
    async with Peer() as peer:
        peer.rejects = lambda data: Code.TYPE_CONFLICT if data.seq == 3 else None
        log = await send(peer, survey)
    assert log.rejected == [3]
    assert len(log.stored) == 10


async def test_a_hub_that_lost_batches_stops_the_upload(survey: FileSurvey) -> None:
    """A hub that was restored from a copy lacks earlier batches; the error says what to do."""
    async with Peer() as peer:

        async def restore() -> None:
            await peer.until(lambda: peer.received == 1)
            await peer.release()
            peer.hold()
            await peer.until(lambda: peer.received == 2)
            peer.marks.clear()
            await peer.crash()

        peer.hold()
        restoring = asyncio.create_task(restore())
        with pytest.raises(UploadError, match="Run the same command again"):
            await send(peer, survey)
        await restoring


async def test_an_unknown_token_stops_the_check() -> None:
    """A cause for a person ends the import at once; a busy hub is a temporary error."""
    async with Peer() as peer:
        target = UploadTarget.at(peer.url, "token", "import")
        peer.refusal = HTTPStatus.UNAUTHORIZED, {}
        with pytest.raises(UploadError, match="does not know this token"):
            await check(target)
        peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE, {}
        with pytest.raises(Interrupted, match="busy"):
            await check(target)
        peer.refusal = None
        await check(target)
