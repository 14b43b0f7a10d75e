"""Makes the bucket that a hub writes to, with its retention, or says what is missing; as often as one likes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from hub.model.store import StoreError
from hub.storage.influxdb.answer import Target, Unavailable, words_of
from hub.storage.influxdb.influxdb_store import PROBE
from hub.storage.influxdb.influxql import name
from hub.storage.influxdb.server import Response, Server

DAY_S = 86_400

DEFAULT_POLICY = "autogen"
"""The retention policy that InfluxDB 1 makes with a database."""

UNKNOWN = frozenset({"unauthorized access", "authorization failed", "unable to parse authentication credentials"})
"""What the servers, 2.7 and 1.8, say to credentials that they do not know; with the same status 2.7 tells a right that
is missing."""

_DURATION = re.compile(r"(\d+)h(\d+)m(\d+)s")
"""How InfluxDB 1 shows a retention."""


class Setup(NamedTuple):
    """What there is now: whether the bucket was made, or its retention changed; `keep_s` is 0 for ever."""

    made: bool
    changed: bool
    keep_s: int


async def set_up(server: Server, *, keep_days: float | None) -> Setup:
    """Makes the bucket where it is missing, and gives it the retention asked for; None leaves it as it is, or for ever.

    Raises StoreUnavailable where the server does not answer, and StoreError where it does not allow what is needed,
    with the permission that is missing.
    """
    version = await server.version()
    keep_s = None if keep_days is None else round(keep_days * DAY_S)
    made = await (_bucket(server, keep_s) if version.major >= 2 else _database(server, keep_s))
    probe = await server.write(PROBE)
    if isinstance(probe, Unavailable):
        raise StoreError(probe.trouble)
    await _statement(server, "SHOW MEASUREMENTS LIMIT 1", "read it")
    return made


async def _bucket(server: Server, keep_s: int | None) -> Setup:
    target = server.target
    asked = await server.request("GET", "/api/v2/buckets", params=[("org", target.org), ("name", target.bucket)])
    # An organisation that is not there, or not to be seen, is looked at below.
    found = _json(server, asked, "read buckets", missing_is_none=True).get("buckets", [])
    if not found:
        body = {"orgID": await _organisation(server), "name": target.bucket, "retentionRules": _rules(keep_s or 0)}
        answer = await server.request("POST", "/api/v2/buckets", body=body)
        if answer.status == 422:
            raise StoreError(
                f"there is a bucket {target.bucket}, but the token may not see it: give it permission to read and "
                f"write it. InfluxDB says: {words_of(*_status(answer))}"
            )
        _json(server, answer, f"write buckets of the organisation {target.org}, which makes them")
        return Setup(True, False, keep_s or 0)
    bucket = found[0]
    held_s = next((int(rule["everySeconds"]) for rule in bucket["retentionRules"] if rule["type"] == "expire"), 0)
    if keep_s is None or keep_s == held_s:
        return Setup(False, False, held_s)
    answer = await server.request("PATCH", f"/api/v2/buckets/{bucket['id']}", body={"retentionRules": _rules(keep_s)})
    _json(server, answer, f"write the bucket {target.bucket}, which changes its retention")
    return Setup(False, True, keep_s)


def _rules(keep_s: int) -> list[dict[str, Any]]:
    # For ever is a rule, too: without one a change would leave the old retention.
    return [{"type": "expire", "everySeconds": keep_s}]


async def _organisation(server: Server) -> str:
    target = server.target
    answer = await server.request("GET", "/api/v2/orgs", params=[("org", target.org)])
    found = _json(server, answer, "read organisations", missing_is_none=True).get("orgs", [])
    if not found:
        raise StoreError(
            f"InfluxDB at {target.url} shows this token no organisation {target.org}: correct store.org, or make the "
            f"bucket {target.bucket} yourself, or use a token that may read organisations and write buckets just for "
            "this command (an all-access token, for example)"
        )
    return str(found[0]["id"])


async def _database(server: Server, keep_s: int | None) -> Setup:
    target = server.target
    database, policy = name(target.database), target.retention_policy or DEFAULT_POLICY
    made = False
    show = f"SHOW RETENTION POLICIES ON {database}"
    if (policies := await _policies(server, show)) is None:
        await _statement(server, f"CREATE DATABASE {database}", "make databases (an administrator's)")
        policies = await _policies(server, show) or {}
        made = True
    held_s = policies.get(policy)
    if held_s is not None and (keep_s is None or keep_s == held_s):
        return Setup(made, False, held_s)
    duration = f"DURATION {f'{keep_s}s' if keep_s else 'INF'}"
    verb, end = ("CREATE", " REPLICATION 1") if held_s is None else ("ALTER", "")
    await _statement(
        server,
        f"{verb} RETENTION POLICY {name(policy)} ON {database} {duration}{end}",
        "make and change retention policies (an administrator's)",
    )
    return Setup(made or held_s is None, held_s is not None and not made, keep_s or 0)


async def _policies(server: Server, statement: str) -> dict[str, int] | None:
    """The retention in seconds of each policy; None where there is no such database."""
    result = await _statement(server, statement, "see its retention policies", may_be_missing=True)
    if result is None:
        return None
    columns, rows = result[0]["columns"], result[0].get("values", [])
    found = (dict(zip(columns, row, strict=True)) for row in rows)
    return {policy["name"]: _seconds(policy["duration"]) for policy in found}


def _seconds(duration: str) -> int:
    parts = _DURATION.fullmatch(duration)
    return sum(int(part) * seconds for part, seconds in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0


async def _statement(
    server: Server, statement: str, right: str, *, may_be_missing: bool = False
) -> list[dict[str, Any]] | None:
    """The series of a statement's answer. `right` is what its user has to be allowed."""
    form = [("q", statement), ("db", server.target.database)]
    if server.target.org:
        form[1] = ("db", server.target.bucket)
    answer = await server.request("POST", "/query", form=form)
    result = _json(server, answer, right)["results"][0]
    error = str(result.get("error", ""))
    if may_be_missing and "database not found" in error:
        return None
    if error:
        raise _refused(server.target, right, error)
    series: list[dict[str, Any]] = result.get("series", [])
    return series


def _json(server: Server, answer: Response, right: str, *, missing_is_none: bool = False) -> dict[str, Any]:
    if answer.status == 404 and missing_is_none:
        return {}
    if not 200 <= answer.status < 300:
        raise _refused(server.target, right, words_of(*_status(answer)))
    try:
        return msgspec.json.decode(answer.body or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        raise StoreError(f"what answers at {server.target.url} is no InfluxDB: is store.url right?") from None


def _status(answer: Response) -> tuple[int, bytes]:
    return answer.status, answer.body


def _refused(target: Target, right: str, words: str) -> StoreError:
    if words in UNKNOWN:
        return StoreError(
            f"InfluxDB at {target.url} does not know these credentials: correct INFLUXDB_TOKEN (InfluxDB 1: store.user "
            f"and INFLUXDB_PASSWORD). InfluxDB says: {words}"
        )
    return StoreError(
        f"InfluxDB at {target.url} does not let these credentials deal with {target.bucket}: they need the permission "
        f"to {right}. InfluxDB says: {words}"
    )
