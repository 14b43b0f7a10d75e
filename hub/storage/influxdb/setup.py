"""Setup of the bucket that a hub writes to: creates it with its retention, or reports what is missing. It can run
repeatedly."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from hub.model.store import StoreError
from hub.storage.influxdb.client import HttpResponse, InfluxdbClient, error_text
from hub.storage.influxdb.influxql import name
from hub.storage.influxdb.state import BucketAddress
from hub.storage.influxdb.store import PROBE

DAY_S = 86_400

DEFAULT_POLICY = "autogen"
"""The retention policy that InfluxDB 1 creates with a database."""

UNKNOWN_CREDENTIALS = frozenset(
    {"unauthorized access", "authorization failed", "unable to parse authentication credentials"}
)
"""Text of the servers, 2.7 and 1.8, for credentials that they do not know. InfluxDB 2.7 reports a missing permission
with the same status."""

_DURATION = re.compile(r"(\d+)h(\d+)m(\d+)s")
"""The form in which InfluxDB 1 shows a retention."""


class SetupResult(NamedTuple):
    """Outcome of a setup: the bucket was created, or its retention was changed. `keep_s` is its retention; 0 means
    forever."""

    created: bool
    changed: bool
    keep_s: int


async def set_up(client: InfluxdbClient, *, keep_days: float | None) -> SetupResult:
    """Create the bucket if it does not exist, and set its retention. None keeps an existing retention; a new bucket
    keeps data forever.

    Raises StoreUnavailable if the server does not answer, and StoreError with the missing permission if the server does
    not allow what is needed.
    """
    keep_s = None if keep_days is None else round(keep_days * DAY_S)
    set_up_target = _set_up_bucket if (await client.version()).major >= 2 else _set_up_database
    created = await set_up_target(client, keep_s)
    await client.write(PROBE)
    await _run_statement(client, "SHOW MEASUREMENTS LIMIT 1", "read it")
    return created


async def _set_up_bucket(client: InfluxdbClient, keep_s: int | None) -> SetupResult:
    target = client.target
    answer = await client.request("GET", "/api/v2/buckets", params=[("org", target.org), ("name", target.bucket)])
    # The request below reports an organisation that does not exist or is not visible.
    found = _decode(client, answer, "read buckets", missing_is_none=True).get("buckets", [])
    if not found:
        body = {
            "orgID": await _organisation(client),
            "name": target.bucket,
            "retentionRules": _retention_rules(keep_s or 0),
        }
        answer = await client.request("POST", "/api/v2/buckets", body=body)
        if answer.status == 422:
            raise StoreError(
                f"the bucket {target.bucket} exists, but the token cannot see it: grant it permission to read and "
                f"write it. InfluxDB says: {error_text(answer.status, answer.body)}"
            )
        _decode(client, answer, f"write buckets of the organisation {target.org}, which creates them")
        return SetupResult(True, False, keep_s or 0)
    bucket = found[0]
    current_s = next((int(rule["everySeconds"]) for rule in bucket["retentionRules"] if rule["type"] == "expire"), 0)
    if keep_s is None or keep_s == current_s:
        return SetupResult(False, False, current_s)
    answer = await client.request(
        "PATCH", f"/api/v2/buckets/{bucket['id']}", body={"retentionRules": _retention_rules(keep_s)}
    )
    _decode(client, answer, f"write the bucket {target.bucket}, which changes its retention")
    return SetupResult(False, True, keep_s)


def _retention_rules(keep_s: int) -> list[dict[str, Any]]:
    # Forever is a rule, too: without one, a change would keep the old retention.
    return [{"type": "expire", "everySeconds": keep_s}]


async def _organisation(client: InfluxdbClient) -> str:
    target = client.target
    answer = await client.request("GET", "/api/v2/orgs", params=[("org", target.org)])
    found = _decode(client, answer, "read organisations", missing_is_none=True).get("orgs", [])
    if not found:
        raise StoreError(
            f"InfluxDB at {target.url} shows this token no organisation {target.org}: correct store.org, or create the "
            f"bucket {target.bucket} yourself, or for this command use a token that may read organisations and write "
            "buckets (for example an all-access token)"
        )
    return str(found[0]["id"])


async def _set_up_database(client: InfluxdbClient, keep_s: int | None) -> SetupResult:
    target = client.target
    database, policy = name(target.database), target.retention_policy or DEFAULT_POLICY
    created = False
    show = f"SHOW RETENTION POLICIES ON {database}"
    if (policies := await _policies(client, show)) is None:
        await _run_statement(client, f"CREATE DATABASE {database}", "create databases (an administrator's)")
        policies = await _policies(client, show) or {}
        created = True
    current_s = policies.get(policy)
    if current_s is not None and (keep_s is None or keep_s == current_s):
        return SetupResult(created, False, current_s)
    duration = f"DURATION {f'{keep_s}s' if keep_s else 'INF'}"
    verb, end = ("CREATE", " REPLICATION 1") if current_s is None else ("ALTER", "")
    await _run_statement(
        client,
        f"{verb} RETENTION POLICY {name(policy)} ON {database} {duration}{end}",
        "create and change retention policies (an administrator's)",
    )
    return SetupResult(created or current_s is None, current_s is not None and not created, keep_s or 0)


async def _policies(client: InfluxdbClient, statement: str) -> dict[str, int] | None:
    """Return the retention in seconds of each policy; None if the database does not exist."""
    result = await _run_statement(client, statement, "see its retention policies", may_be_missing=True)
    if result is None:
        return None
    columns, rows = result[0]["columns"], result[0].get("values", [])
    found = (dict(zip(columns, row, strict=True)) for row in rows)
    return {policy["name"]: _seconds(policy["duration"]) for policy in found}


def _seconds(duration: str) -> int:
    parts = _DURATION.fullmatch(duration)
    return sum(int(part) * seconds for part, seconds in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0


async def _run_statement(
    client: InfluxdbClient, statement: str, permission: str, *, may_be_missing: bool = False
) -> list[dict[str, Any]] | None:
    """Return the series of a statement's answer. `permission` is what its user needs."""
    target = client.target
    answer = await client.request(
        "POST", "/query", form=[("q", statement), ("db", target.bucket if target.org else target.database)]
    )
    result = _decode(client, answer, permission)["results"][0]
    error = str(result.get("error", ""))
    if may_be_missing and "database not found" in error:
        return None
    if error:
        raise _permission_error(target, permission, error)
    series: list[dict[str, Any]] = result.get("series", [])
    return series


def _decode(
    client: InfluxdbClient, answer: HttpResponse, permission: str, *, missing_is_none: bool = False
) -> dict[str, Any]:
    if answer.status == 404 and missing_is_none:
        return {}
    if not 200 <= answer.status < 300:
        raise _permission_error(client.target, permission, error_text(answer.status, answer.body))
    try:
        return msgspec.json.decode(answer.body or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        raise StoreError(f"the server at {client.target.url} is not InfluxDB: check store.url") from None


def _permission_error(target: BucketAddress, permission: str, message: str) -> StoreError:
    if message in UNKNOWN_CREDENTIALS:
        return StoreError(
            f"InfluxDB at {target.url} does not know these credentials: correct INFLUXDB_TOKEN (InfluxDB 1: store.user "
            f"and INFLUXDB_PASSWORD). InfluxDB says: {message}"
        )
    return StoreError(
        f"InfluxDB at {target.url} does not allow these credentials to use {target.bucket}: they need the permission "
        f"to {permission}. InfluxDB says: {message}"
    )
