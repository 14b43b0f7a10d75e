"""The application behind the port: unknown paths of the API, and the files of the page."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from hub.http.access import Access
from hub.http.application import (
    DEVICE_VIEW,
    JOB_VIEW,
    LIVE_PATH,
    SECURITY_HEADERS,
    VIEWS,
    StaticPage,
    is_view,
    make_application,
)
from hub.http.authenticator import Authenticator
from hub.http.forwarded import RESERVED
from hub.http.openapi import DescriptionRoutes
from hub.http.routes import RESOURCES
from hub.http.routing import Operation, operations_of
from hub.http.websocket import DEVICE_PATH
from hub.model.identity import Action

ROUTES = (Path(__file__).parents[3] / "dashboards" / "web" / "src" / "ui" / "route.ts").read_text(encoding="utf-8")

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

LONG = "<!doctype html><title>page</title>" + "x" * 2_000


class Resource:
    """Two operations on one path."""

    @Operation("GET", "/api/v1/things/{name}", may=Action.READ)
    async def read(self, name: str) -> list[str]:
        """Return a thing."""
        return [name]

    @Operation("DELETE", "/api/v1/things/{name}", may=Action.ADMINISTER)
    async def remove(self, name: str) -> None:
        """Remove a thing."""

    @Operation("POST", "/api/v2/lines", described=False)
    async def write(self) -> None:
        """Take lines as another server does."""

    @Operation("POST", "/lines", described=False)
    async def write_directly(self) -> None:
        """Take lines as an older server does."""


async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no WebSocket is opened")


async def call(method: str, path: str, **headers: str) -> httpx.Response:
    async def refresh() -> None: ...

    access = Access(lambda _: None, lambda _: None)
    application = make_application(
        [Resource()], Authenticator(access, refresh), {"/v1/device": endpoint, "/v1/live": endpoint}
    )
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        return await client.request(method, path)


async def test_an_unknown_path_of_the_api_is_a_problem_and_never_the_page() -> None:
    """Whatever the method; the answer names the document of what there is."""
    for method in ("GET", "POST", "DELETE"):
        answer = await call(method, "/api/v2/things")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "there is no /api/v2/things; /api/v1/openapi.json" in answer.json()["detail"]


async def test_a_wrong_method_names_the_right_ones() -> None:
    """In the Allow header and in the sentence."""
    answer = await call("PUT", "/api/v1/things/a")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
    assert answer.json()["detail"] == "/api/v1/things/a takes DELETE and GET, not PUT"


async def test_a_wrong_method_of_a_path_outside_the_description_is_one_too() -> None:
    """Such as those of InfluxDB: a person who opens the path in a browser reads that it exists."""
    for path in ("/api/v2/lines", "/lines"):
        for method in ("GET", "DELETE"):
            answer = await call(method, path, **BROWSER)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert answer.json()["detail"] == f"{path} takes POST, not {method}"
    assert (await call("GET", "/other")).status_code == 404


async def test_every_request_is_for_a_host_of_the_hub() -> None:
    """The API and the page alike: a page of another site may have pointed its name here."""
    for path in ("/api/v1/things/a", "/"):
        assert (await call("GET", path, host="evil.example")).status_code == 403
    assert (await call("GET", "/api/v1/things/a")).status_code == 401


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Create the files of a built page."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(LONG)
    (tmp_path / "not_found.html").write_text('<a href="./">Back to the fleet</a>')
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "app-1a2b.js").write_text("run()")
    return tmp_path


async def page(root: Path, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=StaticPage(root))
    async with httpx.AsyncClient(transport=transport, headers=headers) as client:
        return await client.request(method, httpx.URL("http://localhost").copy_with(raw_path=path.encode()))


@pytest.mark.parametrize("path", ["/", "/flow", "/flow/", "/device/pump-7", "/device/pump.7", "/index.html"])
async def test_the_page_answers_for_its_own_routes(built: Path, path: str) -> None:
    """A person can reload or share any of them. The page is never cached, so a new version is seen at once."""
    answer = await page(built, path)
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, LONG, "no-cache")


async def test_the_page_and_its_files_are_below_the_base_path(tmp_path: Path) -> None:
    """Relative addresses of the built page become addresses below the path of the public URL, in every view; the page
    for an unknown path links there, too."""
    built = '<meta name="base-path" content="./" /><script src="./assets/app.js"></script><p title="a ./b">'
    (tmp_path / "index.html").write_text(built)
    (tmp_path / "not_found.html").write_text('<a href="./">Back to the fleet</a>')
    for base_path in ("/", "/telemetry/"):
        transport = httpx.ASGITransport(app=StaticPage(tmp_path, base_path=base_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=BROWSER) as client:
            for path in ("/", "/flow", "/device/pump-7", "/index.html"):
                assert (await client.get(path)).text == built.replace('="./', f'="{base_path}')
            assert f'<a href="{base_path}">' in (await client.get("/nothing")).text


def test_no_path_of_the_hub_can_be_the_base_path() -> None:
    """The first part of each path of the API, the endpoints, the page's views and its files is reserved."""
    paths = {found.path for resource in (*RESOURCES, DescriptionRoutes) for found in operations_of(resource)}
    paths |= {*VIEWS, DEVICE_VIEW, JOB_VIEW, DEVICE_PATH, LIVE_PATH, "/assets/"}
    assert {path.split("/")[1] for path in paths} - {""} == RESERVED


def test_the_views_are_those_of_the_page() -> None:
    """The page's own list of paths, and its patterns of the paths of a device and of a job."""
    assert set(re.findall(r'path: "([^"]+)"', ROUTES)) == VIEWS
    assert rf"^\{JOB_VIEW.rstrip('/')}\/([0-9a-f]{{16,32}})\/?$" in ROUTES
    assert rf"^\{DEVICE_VIEW.rstrip('/')}\/([^/]+)\/?$" in ROUTES


def test_a_view_has_exactly_one_path() -> None:
    """Apart from a slash at its end. The paths of a device and of a job end with an id."""
    for path in ("/", "/flow", "/flow/", "/device/boiler-1", "/device/boiler-1/", f"/device/{'d' * 64}"):
        assert is_view(path), path
    for path in ("/commands", "/commands/new", f"/commands/{'0a' * 8}", f"/commands/{'0a' * 16}/"):
        assert is_view(path), path
    for path in ("/commands/other", f"/commands/{'0a' * 17}", f"/commands/{'0A' * 8}", "/commands/new/a"):
        assert not is_view(path), path
    for path in ("", "//", "/flow//", "//flow", "/Flow", "/flow/x", "/device", "/device/", "/device/a/b", "/device/.."):
        assert not is_view(path), path
    for path in (f"/device/{'d' * 65}", "/device/\ufffd", "/device/a b", "/api", "/v1/other"):
        assert not is_view(path), path


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/assets", "/assets/", "//", "/assets/%2e%2e/%2e%2e/etc/passwd", "/%ff", "/device/a%2Fb"),
        *("/assets/%00", "/assets/app-1a2b.js%00", f"/{'a' * 5000}", f"/assets/{'%61' * 300}"),
    ],
)
async def test_another_path_is_not_found(built: Path, path: str) -> None:
    """A browser gets a page with a link, a program a problem."""
    answer = await page(built, path, **BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert 'href="/"' in answer.text
    answer = await page(built, path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not_found"


async def test_assets_are_cached_for_ever_and_other_files_are_not(built: Path) -> None:
    """The name of an asset contains the hash of its content."""
    asset = await page(built, "/assets/app-1a2b.js")
    assert (asset.text, asset.headers["cache-control"]) == ("run()", "public, max-age=31536000, immutable")
    icon = await page(built, "/icon.svg")
    assert (icon.headers["content-type"], icon.headers["cache-control"]) == ("image/svg+xml", "no-cache")


async def test_a_missing_asset_is_not_the_page(built: Path) -> None:
    """A page of an older version must fail to load it, and not run HTML as a script."""
    assert (await page(built, "/assets/app-0000.js")).status_code == 404


async def test_no_file_outside_the_page_is_served(built: Path) -> None:
    """The answer to such a path is that of any other unknown path."""
    for path in ("/../icon.svg", "/..%2ficon.svg", "/%2e%2e/icon.svg"):
        assert (await page(built / "assets", path)).status_code == 404


@pytest.mark.parametrize("path", ["/", "/assets/app-1a2b.js"])
async def test_every_answer_has_the_security_headers(built: Path, path: str) -> None:
    """Also an error; the page runs scripts and styles of its own files only."""
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 405)):
        answer = await page(built, path, method)
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["allow"] == "GET, HEAD"


async def test_a_hub_without_a_built_page_says_so(tmp_path: Path) -> None:
    """The hub itself runs: the answer shows a developer what to do."""
    answer = await page(tmp_path, "/flow")
    assert (answer.status_code, "make run" in answer.text) == (503, True)
