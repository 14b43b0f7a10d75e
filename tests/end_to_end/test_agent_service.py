"""The agent as a service against a real hub: own authority, client certificate, compression, a corrected token."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from device_agent.check import check_file
from device_agent.status_file import AgentStatus, read_agent_status
from tests.certificates import LOOPBACK, Authority
from tests.conditions import result_of
from tests.device_agent.pty_port import PtyPort
from tests.end_to_end.hub import Hub
from tests.end_to_end.tls_hub import tls_hub

LINES = 300


async def checked(file: Path) -> str:
    """Return what `device-agent check` prints."""
    return "\n".join((await asyncio.to_thread(check_file, file)).lines())


async def stored(hub: Hub, device: str) -> dict[str, Any]:
    """Return the accounting of a device as soon as the store has everything."""
    rows: list[dict[str, Any]] = (await hub.settled())["devices"]
    return next(row for row in rows if row["device"] == device)


@pytest.mark.deadline(120)
async def test_a_service_delivers_over_tls_after_its_token_is_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` finds the wrong token; the running service needs no restart. Every line is stored once.

    The hub requires a client certificate of an own authority, and agrees to compress.
    """
    monkeypatch.delenv("HUB_TOKEN", raising=False)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("agent")
    port = PtyPort(tmp_path / "port")
    port.plug_in()
    settings = f'client_ca = "{authority.certificate}"\n[live]\ncompression = true'
    async with tls_hub(tmp_path, authority.issue("hub", *LOOPBACK), settings) as hub:
        (tmp_path / "agent.toml").write_text(f"""
            hub = "{hub.url}"
            device = "kiln"
            token_file = "token"
            spool_directory = "spools"
            compression = true
            wire_format = "json"
            [tls]
            ca = "{authority.certificate}"
            certificate = "{certificate}"
            key = "{key}"
            [[source]]
            kind = "serial"
            port = "{port.path}"
        """)
        (tmp_path / "token").write_text("wrong")
        (tmp_path / "token").chmod(0o600)
        other = await hub.token("device", "--device", "boiler")
        config = tmp_path / "agent.toml"
        assert f"{config}:4: token_file: no valid token" in await checked(config)
        (tmp_path / "token").write_text(other)
        assert "may not write as 'kiln'" in await checked(config)
        (tmp_path / "token").write_text("wrong")
        with (tmp_path / "agent.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", "-m", "device_agent", "run", "--config", str(config), stderr=log
            )
        try:
            await _logged(tmp_path, "no valid token", "reading from")
            for number in range(LINES):
                await port.write(b'{"n": %d, "text": "%s"}\n' % (number, b"compressible " * 20))
            (tmp_path / "token").write_text(await hub.token("device", "--device", "kiln"))
            await _logged(tmp_path, "connected to")
            assert await checked(config) == f"ok: 1 source of 1 device, and {hub.url} accepts the agent"
            status = await _status_online(tmp_path / "spools" / "kiln.spool")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            port.pull()
        device = await stored(hub, "kiln")
        answer = await hub.get("/api/v1/history", device="kiln", metric="n", points=0, **{"from": "0"})
    assert (device["accepted"], device["stored"], device["lost_batches"]) == (2 * LINES, 2 * LINES, 0)
    assert [int(value) for value in answer["series"][0]["values"]] == list(range(LINES))
    assert (status.refused, status.reconnects, [source.ok for source in status.sources]) == (0, 0, [True])
    assert status.clock_offset_ns is not None
    assert abs(status.clock_offset_ns) < 60 * 10**9


async def _logged(folder: Path, *texts: str) -> None:
    """Return when the log of the agent contains all these texts."""

    async def read() -> bool | None:
        log = (folder / "agent.log").read_text()
        return True if all(text in log for text in texts) else None

    await result_of(read)


async def _status_online(spool: Path) -> AgentStatus:
    """Return the status of the running agent as soon as it is connected."""

    async def read() -> AgentStatus | None:
        status = read_agent_status(spool)
        return status if status is not None and status.connection == "online" else None

    return await result_of(read)
