"""The hub's own wheel, from which devices install the agent. Everybody may download it: it contains no data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html import escape
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from hub.http import answers
from hub.http.problem import Refusal
from hub.http.routing import NO_STORE, Operation
from hub.http.wheel import Wheel, WheelError

FOLDER = "/download/"

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Install the agent</title></head>
<body>
<h1>Install the agent</h1>
<p>This file has the version of this hub. pip checks it against its hash.</p>
<p><a href="{file}#sha256={sha256}" data-requires-python="{requires_python}">{file}</a></p>
<pre>
python3 -m venv telemetry-agent
telemetry-agent/bin/pip install {folder}{file}#sha256={sha256}
telemetry-agent/bin/device-agent --help
</pre>
</body>
</html>
"""
"""The page for people, and for `pip --find-links`. It needs no script and no style of its own."""


class DownloadRoutes:
    """The operations about the wheel. It is made once, at the first request, and kept: about 1 MB."""

    def __init__(self, make: Callable[[], Wheel], *, base_path: str = "/") -> None:
        """`base_path` is the path of the hub's public URL."""
        self._make = make
        self._base_path = base_path
        self._making: asyncio.Task[Wheel] | None = None

    @Operation("GET", "/api/v1/download", errors=(503,))
    async def download(self) -> answers.DownloadDetails:
        """Return the file from which devices install the agent, and its hash. It needs no token."""
        wheel = await self._wheel()
        return answers.DownloadDetails(
            wheel.file, f"{FOLDER}{wheel.file}", wheel.sha256, len(wheel.content), wheel.requires_python
        )

    @Operation("GET", FOLDER, described=False)
    async def download_page(self, request: Request) -> Response:
        """Answer with a page that links the file with its hash."""
        wheel = await self._wheel()
        page = PAGE.format(
            file=escape(wheel.file),
            sha256=wheel.sha256,
            requires_python=escape(wheel.requires_python),
            folder=escape(f"{str(request.base_url).rstrip('/')}{self._base_path.rstrip('/')}{FOLDER}"),
        )
        return HTMLResponse(page, headers=NO_STORE)

    @Operation("GET", f"{FOLDER}{{file}}", described=False)
    async def download_file(self, file: str) -> Response:
        """Answer with the file."""
        wheel = await self._wheel()
        if file != wheel.file:
            raise Refusal(HTTPStatus.NOT_FOUND, f"this hub serves {FOLDER}{wheel.file}; the hub may have been updated")
        return Response(wheel.content, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})

    async def _wheel(self) -> Wheel:
        """Return the wheel. Requests that arrive while it is made wait for the same one. Raises Refusal."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="wheel")
        try:
            return await asyncio.shield(self._making)
        except WheelError as error:
            detail = f"the hub cannot make its wheel: {error}. Install the agent from the sources instead"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
