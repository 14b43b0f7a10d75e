"""Rules of every test: the event loop, deadlines, skips in continuous integration, real services."""

from __future__ import annotations

import asyncio
import functools
import inspect
import linecache
import os
import traceback
from asyncio.constants import DEBUG_STACK_DEPTH
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.services import Service, find_service, service_table
from tests.services.clients import INFLUXDB_CLIENT_JS, ClientProgram
from tests.services.found import (
    CADDY,
    CHROMIUM,
    COMPOSE,
    HAPROXY,
    INFLUXDB1,
    INFLUXDB2,
    INFLUXDB_CLIENT_GO,
    MOSQUITTO,
    NGINX,
    TELEGRAF,
)
from tests.services.influxdb import Influxdb1, Influxdb2, InfluxdbServer
from tests.skips import is_forbidden, skips_are_forbidden

DEADLINE_S = 60.0
"""Time limit of an async test that waits for something that never arrives, far above what any test needs."""

# Shared machines are slow at random, so the duration of an example has no meaning.
hypothesis.settings.register_profile(
    "project",
    deadline=None,
    print_blob=True,
    # In continuous integration a failure must come from the change, so the examples are the same each time. On a
    # developer's machine they are new, and a failure found there becomes a fixed example.
    derandomize=skips_are_forbidden(),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("project")

# Tests start hundreds of processes. Each of them would compile the modules again, which takes up to half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The debug mode of asyncio records a stack for each future and each callback, which took a third of the processor time
# of these processes: it asks the disk whether the source of each frame has changed, and a future has all frames of
# pytest. Sources do not change during a run, and a future needs no more frames than a callback.
linecache.checkcache = lambda filename=None: None
traceback.extract_stack.__defaults__ = (None, DEBUG_STACK_DEPTH)


def pytest_report_header() -> list[str]:
    return ["services:", *service_table()]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run async tests and fixtures on asyncio with its debug mode."""
    return "asyncio", {"debug": True}


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Return the path of Chromium; skip the test with the reason when there is none."""
    return _program(CHROMIUM)


@pytest.fixture(scope="session")
def influxdb1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxdbServer]:
    """Run InfluxDB 1.8; skip the test with the reason when there is none."""
    with InfluxdbServer(_program(INFLUXDB1), tmp_path_factory.mktemp("influxdb1"), Influxdb1()) as server:
        yield server


@pytest.fixture(scope="session")
def influxdb2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxdbServer]:
    """Run InfluxDB 2.7; skip the test with the reason when there is none."""
    with InfluxdbServer(_program(INFLUXDB2), tmp_path_factory.mktemp("influxdb2"), Influxdb2()) as server:
        yield server


@pytest.fixture(scope="session")
def compose_program() -> Path:
    """Return the path of the program that reads Compose files; skip the test with the reason when there is none."""
    return _program(COMPOSE)


@pytest.fixture(scope="session")
def telegraf_program() -> Path:
    """Return the path of Telegraf; skip the test with the reason when there is none."""
    return _program(TELEGRAF)


@pytest.fixture(scope="session")
def go_writer_program() -> Path:
    """Return the path of the writer with InfluxDB's Go client; skip the test with the reason when there is none."""
    return _program(INFLUXDB_CLIENT_GO)


@pytest.fixture(scope="session")
def js_writer_program() -> ClientProgram:
    """Return the writer with InfluxDB's JavaScript client; skip the test with the reason when there is none."""
    if not INFLUXDB_CLIENT_JS.is_built():
        pytest.skip(INFLUXDB_CLIENT_JS.advice)
    return INFLUXDB_CLIENT_JS


@pytest.fixture(scope="session")
def mosquitto_program() -> Path:
    """Return the path of Mosquitto; skip the test with the reason when there is none."""
    return _program(MOSQUITTO)


@pytest.fixture(scope="session")
def nginx_program() -> Path:
    """Return the path of nginx; skip the test with the reason when there is none."""
    return _program(NGINX)


@pytest.fixture(scope="session")
def haproxy_program() -> Path:
    """Return the path of HAProxy; skip the test with the reason when there is none."""
    return _program(HAPROXY)


@pytest.fixture(scope="session")
def caddy_program() -> Path:
    """Return the path of Caddy; skip the test with the reason when there is none."""
    return _program(CADDY)


def _program(service: Service) -> Path:
    found = find_service(service)
    if found.path is None:
        pytest.skip(found.reason)
    return found.path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    if isinstance(item, pytest.Function):
        marker = item.get_closest_marker("deadline")
        deadline_s = float(marker.args[0]) if marker else DEADLINE_S
        property_test = getattr(item.obj, "hypothesis", None)
        if property_test is not None and inspect.iscoroutinefunction(property_test.inner_test):
            property_test.inner_test = _with_deadline(property_test.inner_test, deadline_s)
        elif inspect.iscoroutinefunction(item.obj):
            item.obj = _with_deadline(item.obj, deadline_s)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail_where_skips_are_forbidden(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _fail_where_skips_are_forbidden(report)
    return report


def _fail_where_skips_are_forbidden(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if is_forbidden(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true forbids: {reason}"


def _with_deadline(test: Callable[..., Awaitable[None]], deadline_s: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(deadline_s):
            await test(*args, **kwargs)

    return bounded
