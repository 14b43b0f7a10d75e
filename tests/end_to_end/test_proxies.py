"""A hub behind the real nginx, Caddy and HAProxy, with the files of deploy/proxies, at a host's root and at a sub-path.

nginx and HAProxy pass the sub-path on, Caddy strips it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.async_api import ConsoleMessage
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from agent_client.tls import system_tls
from device_agent import Agent, Metric, Surroundings
from hub.http.attempts import CLOSE_FROM
from tests.certificates import Authority
from tests.end_to_end.browser import open_browser
from tests.end_to_end.hub import FORK, Hub
from tests.end_to_end.viewer import Viewer
from tests.services.proxy import HOST, TIMEOUT, Caddy, Certificates, Haproxy, Nginx, Proxy
from tests.services.server import free_port
from wire.live import SUBPROTOCOL

DEVICE = "pump-1"
METRIC = "pressure"
SUBPATH = "/telemetry/"
PATHS = ["/", SUBPATH]

SHORT_S = 3
"""Time-out of a proxy under test, instead of TIMEOUT."""

PINGING = (
    sys.executable,
    "-W",
    "error",
    "-c",
    "import hub.http.server as server; server.PING_INTERVAL_S = 1.0; from hub.cli import main; main()",
)
"""A hub that pings every second: as often within SHORT_S as the real one within TIMEOUT, or more rarely."""

QUICK = Surroundings(max_delay_ms=500)
"""Shorter delays between the attempts to reconnect, for tests that restart things."""

ProxyMaker = Callable[..., Proxy]


class Site(NamedTuple):
    """A running proxy and the hub behind it."""

    proxy: Proxy
    hub: Hub
    config: Path

    async def sign_in_url(self) -> str:
        """Return the one-time URL that `hub token url` prints."""
        return await self.hub.run("token", "url", "--data", str(self.hub.data), "--config", str(self.config))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return an authority and a certificate for the host name of the files."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    return Certificates(authority.certificate, *authority.issue("proxy", f"DNS:{HOST}"))


@pytest.fixture(scope="module")
def trust(certificates: Certificates) -> ssl.SSLContext:
    """Return the TLS of a client that trusts the authority."""
    return ssl.create_default_context(cafile=certificates.authority)


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> Iterator[None]:
    """Let the host name lead to this machine, and let every client trust the authority."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host in (HOST, HOST.encode()) else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    # They are read once in a process: other tests of this process may have read those of the system.
    system_tls.cache_clear()
    yield
    system_tls.cache_clear()


@pytest.fixture(params=[Nginx, Caddy, Haproxy], ids=lambda kind: kind.name)
def make_proxy(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> ProxyMaker:
    """Return what makes each of the proxies; skip with the reason where its program is missing."""
    return _maker(request, request.param, tmp_path, certificates)


@pytest.fixture
def make_nginx(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> ProxyMaker:
    """Return what makes nginx; skip with the reason where the program is missing."""
    return _maker(request, Nginx, tmp_path, certificates)


def _maker(request: pytest.FixtureRequest, kind: type[Proxy], folder: Path, certificates: Certificates) -> ProxyMaker:
    program: Path = request.getfixturevalue(f"{kind.name}_program")
    return lambda **how: kind(program, folder / kind.name, certificates, **how)


@contextlib.asynccontextmanager
async def running_site(
    make_proxy: ProxyMaker,
    folder: Path,
    *,
    base_path: str = SUBPATH,
    timeout: str = TIMEOUT,
    launcher: Sequence[str] = FORK,
    access: str = "behind_proxy = true",
) -> AsyncIterator[Site]:
    """Run a proxy and a hub behind it."""
    hub_port = free_port()
    with make_proxy(hub_port=hub_port, base_path=base_path, timeout=timeout) as proxy:
        config = folder / "hub.toml"
        config.write_text(f'public_url = "{proxy.url}"\n[access]\n{access}\n')
        hub = Hub(folder / "data", options=["--config", str(config)], launcher=launcher)
        await hub.start(f"127.0.0.1:{hub_port}")
        try:
            yield Site(proxy, hub, config)
            assert await hub.stop() == 0, hub.log()[-3000:]
        finally:
            await hub.kill()


def client(site: Site, trust: ssl.SSLContext, **how: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=site.proxy.url, verify=trust, timeout=30, **how)


async def send(agent: Agent, values: range, every_s: float = 0.0) -> None:
    for value in values:
        await agent.send({METRIC: float(value)})
        await asyncio.sleep(every_s)


async def stored(hub: Hub) -> list[float]:
    """Return every stored value, in the order of its time."""
    answer = await hub.get("/api/v1/history", device=DEVICE, metric=METRIC, points=0, **{"from": "0"})
    values: list[float] = answer["series"][0]["values"]
    return values


@pytest.mark.parametrize("base_path", PATHS)
async def test_agent_api_page_and_live_values_pass_the_proxy(
    make_proxy: ProxyMaker, tmp_path: Path, trust: ssl.SSLContext, base_path: str
) -> None:
    """Everything works at the public URL: each reading of an agent is acknowledged and stored, the printed one-time URL
    signs a browser in with a cookie for that path alone, the page loads its files, its WebSocket is live, and a page of
    another site cannot use the cookie."""
    async with running_site(make_proxy, tmp_path, base_path=base_path) as site, client(site, trust) as browser:
        token = await site.hub.token("device", "--device", DEVICE)
        async with Agent(site.proxy.url, device=DEVICE, token=token) as agent:
            await send(agent, range(300))
            await agent.drain(30)
            assert agent.counts.acknowledged.readings == 300
            url = await site.sign_in_url()
            assert url.startswith(f"{site.proxy.url}/open/")
            opened = await browser.get(url)
            assert (opened.status_code, opened.headers["location"]) == (303, base_path)
            cookie = opened.headers["set-cookie"]
            assert f"; Path={base_path};" in cookie
            assert cookie.endswith("; Secure")
            again = await browser.get(url, headers={"Accept": "text/html"})
            assert (again.status_code, again.headers["location"]) == (303, f"{base_path}sign-in")
            await _check_page(browser, base_path)
            await _check_download(browser)
            answer = await browser.get("/api/v1/flow")
            assert (answer.status_code, answer.json()["totals"]["accepted"]) == (200, 300)
            (session,) = browser.cookies.jar
            await _check_live(site, agent, f"{session.name}={session.value}")
            for origin, status in (("https://evil.example", 403), (_origin(site), 204)):
                answer = await browser.delete("/api/v1/session", headers={"Origin": origin})
                assert answer.status_code == status
        await site.hub.settled()
        assert await stored(site.hub) == [float(value) for value in range(301)]


async def _check_page(browser: httpx.AsyncClient, base_path: str) -> None:
    """Check that the page and each file that it names load below the base path."""
    for path in ("/", f"/device/{DEVICE}"):
        page = await browser.get(path)
        assert page.status_code == 200
        assert f'<meta name="base-path" content="{base_path}"' in page.text
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(files) >= 3
        for file in files:
            assert file.startswith(f"{base_path}assets/")
            answer = await browser.get(str(page.url.join(file)))
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
    description = (await browser.get("/api/v1/openapi.json")).json()
    assert description["servers"] == [{"url": str(browser.base_url).rstrip("/")}]


async def _check_download(browser: httpx.AsyncClient) -> None:
    """Check that devices can install the agent from the public URL."""
    details = (await browser.get("/api/v1/download")).json()
    wheel = await browser.get(details["path"])
    assert (wheel.status_code, sha256(wheel.content).hexdigest()) == (200, details["sha256"])
    page = await browser.get("/download/")
    assert f"{str(browser.base_url).rstrip('/')}{details['path']}#sha256={details['sha256']}" in page.text


def _origin(site: Site) -> str:
    """Return the origin of the site's pages."""
    return site.proxy.url.removesuffix(site.proxy.base_path.rstrip("/"))


async def _check_live(site: Site, agent: Agent, cookie: str) -> None:
    """Check that the page's WebSocket, with its cookie, gets a new reading."""
    async with Viewer(site.proxy.ws_url, headers={"Cookie": cookie, "Origin": _origin(site)}) as viewer:
        await viewer.subscribe(1)
        await viewer.live()
        await send(agent, range(300, 301))
        await viewer.wait(lambda: bool(viewer.points) and viewer.points[DEVICE, METRIC][-1][1] == 300.0)


@pytest.mark.deadline(120)
async def test_restarts_of_the_proxy_and_the_hub_lose_nothing(make_proxy: ProxyMaker, tmp_path: Path) -> None:
    """An agent sends without a pause while the proxy is killed and restarted, then stopped and restarted, and then the
    hub is killed and restarted: each reading is stored once, in order."""
    async with running_site(make_proxy, tmp_path) as site:
        token = await site.hub.token("device", "--device", DEVICE)
        acknowledged = asyncio.Condition()

        async def reach(count: int) -> None:
            async with acknowledged:
                await acknowledged.wait_for(lambda: agent.counts.acknowledged.readings >= count)

        async def notify() -> None:
            async with acknowledged:
                acknowledged.notify_all()

        notifying: set[asyncio.Task[None]] = set()
        agent = Agent(
            site.proxy.url,
            device=DEVICE,
            token=token,
            metrics=[Metric(METRIC)],
            surroundings=QUICK,
            on_ack=lambda seq: notifying.add(asyncio.create_task(notify())),
        )
        async with agent:
            sending = asyncio.create_task(send(agent, range(900), every_s=0.005))
            await reach(100)
            with site.proxy.down(kill=True):
                await asyncio.sleep(0)
            await reach(agent.counts.acknowledged.readings + 100)
            with site.proxy.down():
                await asyncio.sleep(0)
            await reach(agent.counts.acknowledged.readings + 100)
            await site.hub.kill()
            await site.hub.start()
            await sending
            await agent.drain(60)
            assert agent.counts.acknowledged.readings == 900
            assert agent.counts.lost.readings == 0
            assert agent.counts.connections >= 4
        flow = await site.hub.settled()
        assert (flow["totals"]["accepted"], flow["totals"]["stored"], flow["totals"]["difference"]) == (900, 900, 0)
        assert await stored(site.hub) == [float(value) for value in range(900)]


async def open_endpoints(site: Site) -> list[ClientConnection]:
    """Return a WebSocket on each endpoint that sends no pings itself."""
    headers = {"Authorization": f"Bearer {await site.hub.token('viewer')}"}
    agent = {"Authorization": f"Bearer {await site.hub.token('device', '--device', DEVICE)}"}
    how: dict[str, Any] = {"proxy": None, "ping_interval": None}
    live = await connect(
        f"{site.proxy.ws_url}/v1/live", additional_headers=headers, subprotocols=[Subprotocol(SUBPROTOCOL)], **how
    )
    device = await connect(
        f"{site.proxy.ws_url}/v1/device",
        additional_headers=agent,
        subprotocols=[Subprotocol("telemetry.v1.json")],
        **how,
    )
    await device.send(
        f'{{"type":"hello","device":"{DEVICE}","epoch":"00000000000000aa","next_seq":1,"durable":true,"time":1,"metrics":[]}}'
    )
    assert '"welcome"' in str(await device.recv())
    assert '"welcome"' in str(await live.recv())
    return [live, device]


async def closed(sockets: list[ClientConnection]) -> None:
    """Read until one of the connections is closed."""

    async def read(socket: ClientConnection) -> None:
        async for _ in socket:
            pass

    tasks = [asyncio.create_task(read(socket)) for socket in sockets]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_pings_of_the_hub_keep_an_idle_connection_open(make_proxy: ProxyMaker, tmp_path: Path) -> None:
    """The file has a time-out of 75 s and the hub pings every 20 s. Here they are 3 s and 1 s. A viewer and an agent
    that send nothing stay connected for three times the time-out."""
    async with running_site(make_proxy, tmp_path, timeout=f"{SHORT_S}s", launcher=PINGING) as site:
        sockets = await open_endpoints(site)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(closed(sockets), 3 * SHORT_S)
        for socket in sockets:
            await (await socket.ping())
            await socket.close()


async def test_without_pings_the_time_out_closes_an_idle_connection(make_proxy: ProxyMaker, tmp_path: Path) -> None:
    """The time-out that the test above shortens is the one that counts for WebSockets: a hub that pings more rarely
    loses the connection."""
    async with running_site(make_proxy, tmp_path, timeout=f"{SHORT_S}s") as site:
        await closed(await open_endpoints(site))


async def test_failed_sign_ins_slow_down_only_the_client_that_failed(
    make_nginx: ProxyMaker, tmp_path: Path, trust: ssl.SSLContext
) -> None:
    """The hub counts failures by the address that nginx reports, whatever the client writes into the header. Another
    client of the same proxy is served at once."""
    access = 'behind_proxy = true\ntrusted_proxies = ["127.0.0.1"]'

    def attempts(browser: httpx.AsyncClient, count: int) -> list[Any]:
        return [
            browser.get(
                "/api/v1/hub", headers={"Authorization": "Bearer hub_viewer_no", "X-Forwarded-For": f"192.0.2.{number}"}
            )
            for number in range(count)
        ]

    async with running_site(make_nginx, tmp_path, access=access) as site:
        first = client(site, trust, transport=httpx.AsyncHTTPTransport(verify=trust, local_address="127.0.0.2"))
        second = client(site, trust, transport=httpx.AsyncHTTPTransport(verify=trust, local_address="127.0.0.3"))
        async with first, second:
            answers = await asyncio.gather(*attempts(first, 2 * CLOSE_FROM))
            statuses = {answer.status_code for answer in answers}
            assert statuses == {401, 429}
            assert [answer.status_code for answer in await asyncio.gather(*attempts(second, 1))] == [401]


@pytest.mark.deadline(120)
@pytest.mark.parametrize("kind", [Nginx, Caddy, Haproxy], ids=lambda kind: kind.name)
async def test_the_page_works_below_a_path_in_chromium(
    request: pytest.FixtureRequest, tmp_path: Path, chromium: Path, certificates: Certificates, kind: type[Proxy]
) -> None:
    """The printed one-time URL signs Chromium in. The fleet and a device show live values, links and a reload stay
    below the path, the console has no error, and signing out shows the sign-in page there."""
    make_proxy = _maker(request, kind, tmp_path, certificates)
    async with (
        running_site(make_proxy, tmp_path) as site,
        open_browser(chromium, f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser,
    ):
        token = await site.hub.token("device", "--device", DEVICE)
        async with Agent(site.proxy.url, device=DEVICE, token=token) as agent:
            sending = asyncio.create_task(send(agent, range(100_000), every_s=0.05))
            page = await (await browser.new_context(ignore_https_errors=True)).new_page()
            problems: list[str] = []

            def note(message: ConsoleMessage) -> None:
                if message.type == "error":
                    problems.append(message.text)

            page.on("console", note)
            await page.goto(await site.sign_in_url())
            assert page.url == f"{site.proxy.url}/"
            row = page.get_by_test_id("fleet-row").filter(has_text=DEVICE)
            await row.wait_for()
            shown = await row.inner_text()
            await page.wait_for_function(
                "before => document.querySelector('[data-testid=fleet-row]').innerText !== before", arg=shown
            )
            await row.get_by_role("link").first.click()
            await page.wait_for_url(f"{site.proxy.url}/device/{DEVICE}*")
            await page.reload()
            points = "([d, m, n]) => (window.__hub?.series(d, m)?.values.length ?? 0) > n"
            await page.wait_for_function(points, arg=[DEVICE, METRIC, 0])
            held = await page.evaluate("([d, m]) => window.__hub.series(d, m).values.length", [DEVICE, METRIC])
            await page.wait_for_function(points, arg=[DEVICE, METRIC, held + 10])
            for title, path in (("Flow", "flow"), ("Quarantine", "quarantine"), ("Fleet", "")):
                await page.get_by_role("navigation").get_by_role("link", name=title).click()
                await page.wait_for_url(f"{site.proxy.url}/{path}")
            assert problems == []
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_label("Token").wait_for()
            assert page.url == f"{site.proxy.url}/"
            sending.cancel()
