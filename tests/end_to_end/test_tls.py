"""TLS from an agent to the hub, in processes of their own: the document's commands, client certificates, reload."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import ssl
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.certificates import LOOPBACK, Authority, Issued
from tests.conditions import result_of
from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.hub import Hub
from tests.end_to_end.tls_hub import install, tls_hub

DOCUMENT = Path(__file__).parents[2] / "docs" / "tls.md"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.asynccontextmanager
async def agent(hub: Hub, folder: Path, *options: str, device: str = "boiler-1") -> AsyncIterator[Process]:
    """Run device-agent with a token of its device; its log is on stderr."""
    token = await hub.token("device", "--device", device)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "device_agent", "run", "--hub", hub.url, "--device", device, "--interval", "0.1",
        "--spool", str(folder / f"{device}.spool"), *options,
        env={**os.environ, "HUB_TOKEN": token}, stdin=asyncio.subprocess.DEVNULL, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def log_line(process: Process, part: str) -> str:
    """Return the next line of its log that contains this text."""
    assert process.stderr is not None
    async for line in process.stderr:
        if part in line.decode():
            return line.decode()
    raise AssertionError(f"the agent ended without {part!r}")


async def acknowledged(hub: Hub, device: str, more_than: int = 0) -> int:
    """Return how many batches of the device are acknowledged, as soon as there are more than this."""

    async def query() -> int | None:
        devices = (await hub.get("/api/v1/flow"))["devices"]
        acked: list[int] = [row["acked"] for row in devices if row["device"] == device and row["acked"] > more_than]
        return acked[0] if acked else None

    return await result_of(query)


async def warnings(hub: Hub) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=hub.url, verify=False) as client:
        found: dict[str, str] = (await client.get("/ready")).json()["warnings"]
        return found


async def served_serial(hub: Hub, authority: Authority) -> str:
    """Return the serial number of the certificate that a new connection gets, whatever its names."""
    context = _trusting(authority)
    context.check_hostname = False
    host, _, port = hub.url.removeprefix("https://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return serial


async def serves_other_than(hub: Hub, authority: Authority, old: str) -> str:
    """Return the serial number of the hub's certificate as soon as it is another one."""

    async def query() -> str | None:
        serial = await served_serial(hub, authority)
        return serial if serial != old else None

    return await result_of(query)


async def warned(hub: Hub) -> str:
    """Return the warning about TLS as soon as there is one."""

    async def query() -> str | None:
        return (await warnings(hub)).get("tls")

    return await result_of(query)


async def run_command(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Return exit code, stdout and stderr of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", *arguments, env={**os.environ, **environment}, stdout=PIPE, stderr=PIPE
    )
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


@contextlib.asynccontextmanager
async def shell(command: str, folder: Path, **environment: str) -> AsyncIterator[Process]:
    """Run a command of the document in a folder, in a process group of its own that ends with the block."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        command, cwd=folder, env={**os.environ, "PATH": path, **environment}, stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()


async def finished(command: str, folder: Path) -> str:
    """Run a command of the document to its end, which must be a success; return its stdout."""
    async with shell(command, folder) as process:
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def commands_under(heading: str) -> list[str]:
    """Return the shell commands below a heading of the document."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [re.sub(r"(?m)^   ", "", block).strip() for block in blocks]


@pytest.mark.deadline(120)
async def test_the_five_commands_of_the_document_give_an_agent_a_trusted_connection(tmp_path: Path) -> None:
    """They are run as they are, only with localhost for the hub's name, a free port, and the token that they print.

    With the commands below "Client certificates", the hub requires one, and the agent presents it.
    """
    create_ca, create_certificate, run_hub, create_token, run_agent = commands_under("Own CA in five commands")
    create_client, run_certified_agent = commands_under("Client certificates")
    for command in (create_ca, create_certificate, create_client):
        await finished(command, tmp_path)
    assert run_hub.startswith("HUB_TLS__CERTIFICATE=hub.pem ")
    run_hub = "HUB_TLS__CLIENT_CA=ca.pem exec env " + run_hub.replace("0.0.0.0:8600", "0.0.0.0:0")
    async with shell(run_hub.replace("exec env HUB", "HUB"), tmp_path) as hub:
        assert hub.stdout is not None
        first = (await hub.stdout.readline()).decode()
        assert first.startswith("listening on https://"), first
        port = first.strip().rpartition(":")[2]
        token = (await finished(create_token, tmp_path)).strip()

        def agent_at_hub(command: str) -> str:
            command = command.replace("hub.example:8600", f"localhost:{port}").replace("TOKEN=TOKEN", f"TOKEN={token}")
            return f"{command} --spool {tmp_path}/spool"

        async with shell(agent_at_hub(run_agent), tmp_path) as uncertified:
            line = await log_line(uncertified, "the hub refused the connection")
            assert "this hub requires a client certificate of devices; give the agent --client-certificate FILE" in line
        async with shell(agent_at_hub(run_certified_agent), tmp_path) as certified:
            assert f"connected to wss://localhost:{port}/v1/device" in await log_line(certified, "connected to")
        flow = await finished("hub flow", tmp_path)
        assert "boiler-1" in flow
        assert "https://hub.example:8600/open/" in await finished("hub token url", tmp_path)


@pytest.mark.deadline(120)
async def test_agents_and_simulators_trust_the_given_authority(authority: Authority, tmp_path: Path) -> None:
    """Both work with --ca; without it, an agent reports the unknown authority."""
    ca = str(authority.certificate)
    async with tls_hub(tmp_path, authority.issue("hub", *LOOPBACK)) as hub:
        async with agent(hub, tmp_path, device="boiler-2") as unknowing, agent(hub, tmp_path, "--ca", ca):
            await acknowledged(hub, "boiler-1")
            assert "unknown authority; give --ca FILE" in await log_line(unknowing, "next attempt")
        token = await hub.token("gateway", "--devices", "*")
        options = ("--devices", "2", "--duration", "0.5", "--assert", "lost==0", "--assert", "acked>0")
        code, out, errors = await run_command(
            "device_sim", "run", *options, "--ca", ca, HUB_URL=hub.url, HUB_TOKEN=token
        )
        assert code == 0, out + errors


@pytest.mark.deadline(120)
async def test_commands_trust_the_given_authority(authority: Authority, tmp_path: Path) -> None:
    """`hub import` and `hub flow` work with --ca or HUB_CA, and report an unknown authority and a wrong name.

    On the hub's machine, a command that finds its data directory needs neither, although the certificate has another
    name.
    """
    lines, ca = tmp_path / "log.lp", str(authority.certificate)
    lines.write_text("weather,device=importer temperature=21.5 1700000000000000000\n")
    async with tls_hub(tmp_path, authority.issue("hub", *LOOPBACK)) as hub:
        given = {"HUB_URL": hub.url, "HUB_TOKEN": await hub.token("gateway", "--devices", "*")}
        upload = ("hub", "import", str(lines), "--device-tag", "device")
        code, out, errors = await run_command(*upload, **given, HUB_CA=ca)
        assert code == 0, out + errors
        code, _, errors = await run_command(*upload, **given)
        assert (code, "unknown authority; give --ca FILE" in errors) == (1, True)
        serial = await served_serial(hub, authority)
        install(authority.issue("renamed", "DNS:hub.example"), tmp_path)
        await serves_other_than(hub, authority, serial)
        code, _, errors = await run_command("hub", "flow", "--ca", ca, **given)
        assert (code, "is for hub.example and not for 127.0.0.1" in errors) == (1, True)
        code, out, errors = await run_command("hub", "flow", "--data", str(hub.data))
        assert (code, "importer" in out) == (0, True), errors


@pytest.mark.deadline(120)
async def test_devices_need_a_certificate_and_others_do_not(authority: Authority, tmp_path: Path) -> None:
    """An agent without one is refused before it can try a token; one of another authority fails in the handshake, and
    both agents report why. The page, the API and the metrics need none. The token stays the identity."""
    client, expired = authority.issue("client"), authority.issue("expired", ends=timedelta(hours=-1))
    foreign = Authority(tmp_path / "other", "Other authority").issue("client")
    ca = ("--ca", str(authority.certificate))

    def with_certificate(made: Issued) -> tuple[str, ...]:
        return *ca, "--client-certificate", str(made.certificate), "--client-key", str(made.key)

    settings = f'client_ca = "{authority.certificate}"'
    async with tls_hub(tmp_path, authority.issue("hub", *LOOPBACK), settings) as hub:
        async with agent(hub, tmp_path, *with_certificate(client), device="known"):
            await acknowledged(hub, "known")
        for options, says in (
            (ca, "this hub requires a client certificate of devices; give the agent --client-certificate FILE"),
            (with_certificate(foreign), "the hub rejected the client certificate; give --client-certificate FILE"),
            (with_certificate(expired), "the hub rejected the client certificate because it has expired; renew it"),
        ):
            async with agent(hub, tmp_path, *options, device="unknown") as refused:
                assert says in await log_line(refused, "next attempt")
        async with httpx.AsyncClient(base_url=hub.url, verify=_trusting(authority)) as browser:
            assert (await browser.get("/")).status_code in (200, 503)  # 503: the page is not built
            assert (await browser.get("/api/v1/flow")).status_code == 401
            for path in ("/api/v1/readings", "/api/v2/write"):  # readings need one, by any way
                assert (await browser.post(path, content=b"{}")).status_code == 403
            metrics = (await browser.get("/metrics")).text
            assert (await browser.get("/health")).status_code == 200
        async with httpx.AsyncClient(base_url=hub.url, verify=_trusting(authority, client)) as browser:
            assert (await browser.get("/api/v1/flow")).status_code == 401  # a certificate is no identity
            assert (await browser.post("/api/v1/readings", content=b"{}")).status_code == 401
    assert 'hub_refused_requests_total{reason="no_client_certificate"} 3.0' in metrics
    assert 'hub_refused_requests_total{reason="tls_client_certificate"} 2.0' in metrics
    assert "Traceback" not in hub.log()


def _trusting(authority: Authority, own: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if own is not None:
        context.load_cert_chain(*own)
    return context


@pytest.mark.deadline(120)
async def test_a_renewed_certificate_is_used_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    """A connection that is open continues, and new ones get the new serial number.

    Files that do not fit are reported by /ready and the log, and the certificate before them stays in use.
    """
    first, second = (authority.issue(name, *LOOPBACK) for name in ("first", "second"))
    async with tls_hub(tmp_path, first) as hub, agent(hub, tmp_path, "--ca", str(authority.certificate)) as running:
        await log_line(running, "connected to")
        acked = await acknowledged(hub, "boiler-1")
        old = await served_serial(hub, authority)
        shutil.copy(second.certificate, tmp_path / "certificate.pem")
        assert "the new files are not used, and the certificate before them stays in use" in await warned(hub)
        assert await served_serial(hub, authority) == old
        install(second, tmp_path)
        new = await serves_other_than(hub, authority, old)
        assert await warnings(hub) == {}
        await acknowledged(hub, "boiler-1", more_than=acked)
        events = (await hub.get("/api/v1/devices/boiler-1/events"))["events"]
        assert [event["kind"] for event in events].count("connected") == 1
        install(authority.issue("third", *LOOPBACK), tmp_path)
        os.kill(hub.pid, signal.SIGHUP)
        await serves_other_than(hub, authority, new)
    assert '"event": "tls certificate loaded"' in hub.log()
    assert "the new files are not used" in hub.log()


async def test_a_certificate_that_clients_refuse_is_reported(authority: Authority, tmp_path: Path) -> None:
    """The log, /ready and /metrics report its end and its missing name, and the hub runs."""
    made = authority.issue("hub", "DNS:other.example", ends=timedelta(days=5))
    async with tls_hub(tmp_path, made, '[access]\nallowed_hosts = ["hub.example"]') as hub:
        warning = (await warnings(hub))["tls"]
        async with httpx.AsyncClient(base_url=hub.url, verify=False) as client:
            metrics = (await client.get("/metrics")).text
    assert warning.startswith("the certificate ends in 4 days (")
    assert "; the certificate is for other.example and not for hub.example: clients refuse it" in warning
    (ends,) = re.findall(r"^hub_tls_certificate_not_after_timestamp_seconds (\S+)$", metrics, re.MULTILINE)
    assert float(ends) - time.time() == pytest.approx(5 * 86_400, abs=300)
    assert "the certificate ends in 4 days (" in hub.log()
    assert "is for other.example and not for hub.example" in hub.log()


@pytest.mark.deadline(120)
async def test_the_page_is_live_over_tls_and_needs_no_client_certificate(
    authority: Authority, tmp_path: Path, chromium: Path
) -> None:
    """A browser signs in by the one-time URL, and its chart follows a device that presents a certificate."""
    settings, client = f'client_ca = "{authority.certificate}"', authority.issue("client")
    certified = ("--client-certificate", str(client.certificate), "--client-key", str(client.key))
    async with (
        tls_hub(tmp_path, authority.issue("hub", *LOOPBACK), settings) as hub,
        agent(hub, tmp_path, "--ca", str(authority.certificate), *certified),
        open_browser(chromium) as browser,
    ):
        await acknowledged(hub, "boiler-1")
        page = await open_page(browser, hub, "/device/boiler-1", ignore_https_errors=True)
        await page.wait_for_function("() => (window.__hub?.series('boiler-1', 'memory.used')?.values.length ?? 0) > 2")
        (cookie,) = await page.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"]) == (True, True)
        await page.goto(f"{hub.url}/add")
        await page.get_by_test_id("own-authority").get_by_text("from an authority of your own").click()
        await page.get_by_text("device-agent run --ca ca.pem").wait_for()


async def test_failed_handshakes_are_counted_and_logged_without_a_traceback(
    authority: Authority, tmp_path: Path
) -> None:
    """Plain HTTP is answered with 400; an agent with ws:// prints that sentence. Each reason has one line."""
    foreign = Authority(tmp_path / "other", "Other authority")
    async with tls_hub(tmp_path, authority.issue("hub", *LOOPBACK)) as hub:
        host, _, port = hub.url.removeprefix("https://").rpartition(":")
        address = host, int(port)
        plain = hub.url.replace("https", "http")
        async with httpx.AsyncClient() as client:
            answers = [await client.get(f"{plain}/api/v1/hub") for _ in range(5)]
        sentence = "this port speaks TLS; use https:// or wss:// in the client's URL"
        assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {(400, sentence)}
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(ssl.get_server_certificate, address, ca_certs=str(foreign.certificate))
        real, hub.url = hub.url, plain
        async with agent(hub, tmp_path) as wrong:
            hub.url = real
            assert f"the hub refused the connection: {sentence} (HTTP 400)" in await log_line(wrong, "next attempt")
        async with httpx.AsyncClient(base_url=hub.url, verify=_trusting(authority)) as client:
            metrics = (await client.get("/metrics")).text
    assert 'hub_refused_requests_total{reason="tls_plain_http"} 6.0' in metrics
    assert 'hub_refused_requests_total{reason="tls_unknown_authority"} 3.0' in metrics
    lines = hub.log().splitlines()
    assert len([line for line in lines if '"tls_plain_http"' in line]) == 1
    assert len([line for line in lines if '"tls_unknown_authority"' in line]) == 1
    assert "Traceback" not in hub.log()
