"""The file of an export, from an Arrow stream in memory."""

from __future__ import annotations

import io

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub.cli import export_file as module
from hub.cli.export_file import WRITERS, InvalidExport, write_export
from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub


@pytest.fixture(scope="module")
async def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the Arrow stream of a hub's export, of two devices with 40 readings each."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as hub:
        for device in ("boiler", "pump"):
            await hub.send(device, *(batch(seq, float(seq)) for seq in range(1, 41)))
        return await _export(hub)


async def _export(hub: CommandedHub) -> bytes:
    transport = httpx.ASGITransport(app=hub.services.application)
    headers = {"Authorization": f"Bearer {hub.admin}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        answer = await client.get("/api/v1/export", params={"device": "*", "from": "0", "format": "arrow"})
        assert answer.status_code == 200
        return answer.content


@pytest.mark.parametrize("format", WRITERS)
async def test_every_format_has_every_reading(stream: bytes, format: str) -> None:
    """The parts that are reported add up to the readings."""
    sink = io.BytesIO()
    parts: list[int] = []
    assert write_export(io.BytesIO(stream), sink, format, parts.append) == 80 == sum(parts)
    content = sink.getvalue()
    match format:
        case "parquet":
            assert pq.read_table(io.BytesIO(content)).num_rows == 80
        case "arrow":
            assert pa.ipc.open_stream(content).read_all().num_rows == 80
        case "csv":
            assert len(content.splitlines()) == 81
        case _:
            assert len(content.splitlines()) == 80


async def test_row_groups_are_bounded(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader skips whole groups by their times, and the writer keeps one group in memory."""
    monkeypatch.setattr(module, "GROUP_READINGS", 1)
    sink = io.BytesIO()
    write_export(io.BytesIO(stream), sink, "parquet", lambda _: None)
    batches = [batch.num_rows for batch in pa.ipc.open_stream(stream)]
    metadata = pq.read_metadata(io.BytesIO(sink.getvalue()))
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == batches


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b'{"error": 1}'])
def test_an_answer_of_another_program_is_reported(content: bytes) -> None:
    """The URL belongs to something else."""
    with pytest.raises(InvalidExport, match="check that the URL belongs to a hub"):
        write_export(io.BytesIO(content), io.BytesIO(), "csv", lambda _: None)


async def test_a_stream_that_breaks_off_is_an_error(stream: bytes) -> None:
    """The command then leaves no file behind."""
    with pytest.raises((pa.ArrowInvalid, OSError)):
        write_export(io.BytesIO(stream[: len(stream) // 2]), io.BytesIO(), "parquet", lambda _: None)
