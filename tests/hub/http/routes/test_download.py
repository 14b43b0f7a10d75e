"""The download of the agent: one build for any number of requests, and answers that agree with each other."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from hub.http.access import Access
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.routes.download import MAX_LIBRARIES, DownloadRoutes
from hub.http.routing import routes_of
from hub.http.wheel import Wheel, WheelError

WHEEL = Wheel("telemetry_hub-1.2.3-py3-none-any.whl", b"zip", hashlib.sha256(b"zip").hexdigest(), ">=3.11")

NOWHERE = Path("/nowhere")


def client_of(routes: DownloadRoutes) -> httpx.AsyncClient:
    async def refresh() -> None: ...

    access = Access(lambda _: None, lambda _: None)
    api = Starlette(routes=routes_of(routes, Authenticator(access, refresh)), exception_handlers=HANDLERS)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://hub:8600")


async def test_the_answers_name_the_same_file_and_hash() -> None:
    """The description, the page and the file itself need no token."""
    async with client_of(DownloadRoutes(lambda: WHEEL, NOWHERE)) as client:
        details = (await client.get("/api/v1/download")).json()
        page = (await client.get("/download/")).text
        file = await client.get(details["path"])
    assert details == {
        "file": WHEEL.file,
        "path": f"/download/{WHEEL.file}",
        "sha256": WHEEL.sha256,
        "size_bytes": 3,
        "requires_python": ">=3.11",
        "libraries": 0,
    }
    assert (file.status_code, file.content) == (200, b"zip")
    assert re.findall(r'href="([^"]+)" data-requires-python="([^"]+)"', page) == [
        (f"{WHEEL.file}#sha256={WHEEL.sha256}", "&gt;=3.11")
    ]
    assert f"pip install http://hub:8600/download/{WHEEL.file}#sha256={WHEEL.sha256}" in page


@pytest.mark.parametrize("public_url", ["https://example.org/telemetry", "https://example.org/telemetry/"])
async def test_the_page_names_the_public_url(public_url: str) -> None:
    """The hub does not see the scheme, the name and the path that a proxy takes away; the link is relative."""
    async with client_of(DownloadRoutes(lambda: WHEEL, NOWHERE, public_url=public_url)) as client:
        page = (await client.get("/download/")).text
    assert f"pip install https://example.org/telemetry/download/{WHEEL.file}#sha256={WHEEL.sha256}" in page
    assert "hub:8600" not in page
    assert f'href="{WHEEL.file}#' in page


async def test_another_version_is_not_found() -> None:
    """The answer names the file that exists."""
    async with client_of(DownloadRoutes(lambda: WHEEL, NOWHERE)) as client:
        answer = await client.get("/download/telemetry_hub-1.2.2-py3-none-any.whl")
    assert answer.status_code == 404
    assert WHEEL.file in answer.json()["detail"]


async def test_requests_share_one_build() -> None:
    """Requests during the build and after it wait for the same file, also if the first one is cancelled."""
    started, finish, builds = asyncio.Event(), threading.Event(), 0
    loop = asyncio.get_running_loop()

    def make() -> Wheel:
        nonlocal builds
        builds += 1
        loop.call_soon_threadsafe(started.set)
        assert finish.wait(30)
        return WHEEL

    async with client_of(DownloadRoutes(make, NOWHERE)) as client:
        first = asyncio.create_task(client.get("/api/v1/download"))
        await started.wait()
        others = [asyncio.create_task(client.get("/download/")) for _ in range(20)]
        first.cancel()
        finish.set()
        answers = await asyncio.gather(*others)
        answers.append(await client.get("/download/"))
    assert {answer.status_code for answer in answers} == {200}
    assert builds == 1


async def test_a_failed_build_is_not_repeated() -> None:
    """Every request gets the reason and what to do."""
    builds = 0

    def make() -> Wheel:
        nonlocal builds
        builds += 1
        raise WheelError("the installation has no list of its files (RECORD)")

    async with client_of(DownloadRoutes(make, NOWHERE)) as client:
        answers = [await client.get("/api/v1/download") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert "RECORD" in answers[0].json()["detail"]
    assert builds == 1


async def test_wheels_of_libraries_are_served_beside_it(tmp_path: Path) -> None:
    """Only wheels in the folder itself, and no other version of the agent: pip could prefer it."""
    for name in ("rich-14.0-py3-none-any.whl", "telemetry_hub-9.0-py3-none-any.whl", "notes.txt", 'a"b.whl'):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.whl").mkdir()
    async with client_of(DownloadRoutes(lambda: WHEEL, tmp_path)) as client:
        details = (await client.get("/api/v1/download")).json()
        page = (await client.get("/download/")).text
        library = await client.get("/download/rich-14.0-py3-none-any.whl")
        others = [await client.get(f"/download/{name}") for name in ("telemetry_hub-9.0-py3-none-any.whl", "notes.txt")]
    assert details["libraries"] == 1
    assert re.findall(r'href="([^"#]+)', page) == [WHEEL.file, "rich-14.0-py3-none-any.whl"]
    assert "pip install --no-index --find-links http://hub:8600/download/ http://hub:8600/download/telemetry" in page
    assert library.text == "rich-14.0-py3-none-any.whl"
    assert [answer.status_code for answer in others] == [404, 404]


async def test_the_number_of_libraries_is_bounded(tmp_path: Path) -> None:
    """The first ones in order of their names are listed and served."""
    for number in range(MAX_LIBRARIES + 1):
        (tmp_path / f"library-{number:04}-py3-none-any.whl").touch()
    async with client_of(DownloadRoutes(lambda: WHEEL, tmp_path)) as client:
        assert (await client.get("/api/v1/download")).json()["libraries"] == MAX_LIBRARIES
        assert (await client.get("/download/library-0000-py3-none-any.whl")).status_code == 200
        assert (await client.get(f"/download/library-{MAX_LIBRARIES:04}-py3-none-any.whl")).status_code == 404
