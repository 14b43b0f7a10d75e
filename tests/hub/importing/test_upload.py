"""An upload that is stopped waits for the thread that reads the file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.importing.upload.delivery import Target
from hub.importing.upload.upload import Events, Upload
from tests.hub.importing.files import surveyed

NOBODY = Events(lambda readings, before: None, lambda batch, reject: None, lambda trouble: None)


async def test_an_upload_can_be_stopped_while_the_file_is_read(tmp_path: Path) -> None:
    """The reading thread is in the middle of a slice then, and nothing may close what it reads from."""
    lines = "".join(f"m,device=a x={number}i {1_700_000_000 + number}\n" for number in range(20_000))
    survey, _ = surveyed(tmp_path / "a.lp", lines)
    async with Upload(Target("ws://127.0.0.1:1/v1/device", "", "test"), survey, NOBODY) as upload:
        running = asyncio.create_task(upload.run())
        for _ in range(3):  # turns of the loop: the upload begins, and its thread
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
