"""The hub's own wheel, from which devices install the agent. Everybody may download it: it contains no data.

The wheels of libraries in a folder of the data directory are served beside it, for devices without a package index.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from hub.http import answers
from hub.http.problem import Refusal
from hub.http.routing import NO_STORE, Operation
from hub.http.wheel import Wheel, WheelError

FOLDER = "/download/"

LIBRARIES = "wheels"
"""Folder of the data directory with the wheels of the agent's libraries. An operator puts them there."""

MAX_LIBRARIES = 256
"""Listed files: the agent needs 13, for some kinds of machines and versions of Python. The others are not served."""

MEDIA_TYPE = "application/octet-stream"
OWN = "telemetry_hub-"

_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]{1,200}\.whl")

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Install the agent</title></head>
<body>
<h1>Install the agent</h1>
<p>This file has the version of this hub. pip checks it against its hash.</p>
<p><a href="{file}#sha256={sha256}" data-requires-python="{requires_python}">{file}</a></p>
<pre>
python3 -m venv telemetry-agent
telemetry-agent/bin/pip install {options}{folder}{file}#sha256={sha256}
telemetry-agent/bin/device-agent --help
</pre>
{libraries}
</body>
</html>
"""
"""The page for people, and for `pip --find-links`. It needs no script and no style of its own."""


class DownloadRoutes:
    """The operations about the wheel. It is made once, at the first request, and kept: about 1 MB."""

    def __init__(self, make: Callable[[], Wheel], libraries: Path, *, public_url: str | None = None) -> None:
        """`libraries` is the folder of further wheels. Without a public URL, the page has the request's address."""
        self._make = make
        self._folder = libraries
        self._public_url = public_url
        self._making: asyncio.Task[Wheel] | None = None

    @Operation("GET", "/api/v1/download", errors=(503,))
    async def download(self) -> answers.DownloadDetails:
        """Return the file from which devices install the agent, and its hash. It needs no token."""
        wheel = await self._wheel()
        return answers.DownloadDetails(
            file=wheel.file,
            path=f"{FOLDER}{wheel.file}",
            sha256=wheel.sha256,
            size_bytes=len(wheel.content),
            requires_python=wheel.requires_python,
            libraries=len(self._libraries()),
        )

    @Operation("GET", FOLDER, described=False)
    async def download_page(self, request: Request) -> Response:
        """Answer with a page that links the file with its hash."""
        wheel, libraries = await self._wheel(), self._libraries()
        folder = escape(f"{(self._public_url or str(request.base_url)).rstrip('/')}{FOLDER}")
        page = PAGE.format(
            file=escape(wheel.file),
            sha256=wheel.sha256,
            requires_python=escape(wheel.requires_python),
            folder=folder,
            options=f"--no-index --find-links {folder} " if libraries else "",
            libraries="".join(f'<p><a href="{name}">{name}</a></p>\n' for name in libraries),
        )
        return HTMLResponse(page, headers=NO_STORE)

    @Operation("GET", f"{FOLDER}{{file}}", described=False)
    async def download_file(self, file: str) -> Response:
        """Answer with the file."""
        wheel = await self._wheel()
        if file in self._libraries():
            return FileResponse(self._folder / file, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-cache"})
        if file != wheel.file:
            raise Refusal(HTTPStatus.NOT_FOUND, f"this hub serves {FOLDER}{wheel.file}; the hub may have been updated")
        return Response(wheel.content, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-cache"})

    def _libraries(self) -> list[str]:
        """Return the names of the further wheels. An own one is not among them: pip could prefer another version."""
        try:
            found = sorted(path.name for path in self._folder.iterdir() if _WHEEL.fullmatch(path.name))
        except OSError:
            return []
        names = [name for name in found if not name.startswith(OWN)]
        return [name for name in names[:MAX_LIBRARIES] if (self._folder / name).is_file()]

    async def _wheel(self) -> Wheel:
        """Return the wheel. Requests that arrive while it is made wait for the same one. Raises Refusal."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="wheel")
        try:
            return await asyncio.shield(self._making)
        except WheelError as error:
            detail = f"the hub cannot make its wheel: {error}. Install the agent from the sources instead"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
