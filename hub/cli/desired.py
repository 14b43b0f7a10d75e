"""`hub desired`: show, set and clear the desired values of devices."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import quote

import typer
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import (
    FAILED,
    MISUSE,
    AsJson,
    HubOptions,
    cells,
    fail,
    plain_table,
    printable,
    stdout_console,
    time_text,
)
from hub.cli.values import typed_values
from hub.model.desired import SyncState
from hub.model.identity import Role

UNKNOWN = 3
"""Exit code if it is not known in time whether the device has the value."""

WAIT_S = 20
"""Longest wait of one request for the next state; below the client's time-out."""

DEFAULT_TIMEOUT_S = 60.0
"""An agent that reconnects and a slow device are ready by then."""

SETTLED = (SyncState.IN_SYNC, SyncState.REJECTED)

app = typer.Typer(
    no_args_is_help=True,
    help="Set desired values of devices, and see which are in force.",
    epilog="Example:  hub desired set pump-001 target_pressure=2.5 --wait",
)

Device = Annotated[str, Argument(metavar="DEVICE", help="Id of the device.")]
Expect = Annotated[
    int | None,
    Option("--expect", metavar="VERSION", min=0, help="Change nothing if the desired values have another version."),
]


@app.command(epilog="Example:  hub desired show pump-001")
@with_option_groups
def show(device: Device, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """Show the settings of a device: the desired value, the reported one, and whether they agree."""
    with hub_client("hub desired show", hub) as client:
        shown = client.get(_path(device))
    if as_json:
        typer.echo(json.dumps(shown))
        return
    if not shown["settings"]:
        typer.echo(f"{printable(device)} declares no setting", err=True)
        return
    table = plain_table("setting", "desired", "reported", "state", "reason", "set (UTC)", "by")
    for setting in shown["settings"]:
        declared, desired = setting["declared"], setting["desired"]
        usage = setting["name"] if declared is None else declared["usage"]
        row = [usage, _value(desired and desired["value"]), _value(setting["reported"])]
        if desired is not None:
            reason = desired["message"] or desired["code"]
            row += [_words(desired["state"]), reason, time_text(desired["time_ns"]), desired["operator"]]
        table.add_row(*cells(*row, *[""] * (7 - len(row))))
    stdout_console().print(table)
    typer.echo(_about(shown))


@app.command("set", epilog="Example:  hub desired set pump-001 target_pressure=2.5 --wait")
@with_option_groups
def set_values(
    device: Device,
    values: Annotated[list[str], Argument(metavar="NAME=VALUE", help="Numbers, true, false, or texts.")],
    expect: Expect = None,
    wait: Annotated[bool, Option("--wait", help="Wait until the device has the values, or rejects one.")] = False,
    timeout: Annotated[
        float, Option("--timeout", metavar="SECONDS", min=0, help="With --wait: the longest wait.")
    ] = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Set desired values of a device. It gets them now, or when it connects.

    Exit code: 0 recorded (with --wait: in force), 1 rejected by the device, or not recorded, 2 wrong setting or value,
    3 with --wait, if it is not known in time.
    """
    command = "hub desired set"
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        known = client.get(_path(device))
        types = {item["name"]: item["declared"]["type"] for item in known["settings"] if item["declared"] is not None}
        wanted = typed_values(command, values, types)
        shown = client.send("PATCH", _path(device), body={"values": wanted, "expected_version": expect})
        if wait:
            shown = _follow(client, shown, wanted, timeout, visible=not as_json)
    if as_json:
        typer.echo(json.dumps(shown))
    else:
        for name, desired in _desired(shown, wanted).items():
            typer.echo(_line(name, desired))
    if wait:
        states = {desired["state"] for desired in _desired(shown, wanted).values()}
        if SyncState.REJECTED in states:
            raise typer.Exit(FAILED)
        if states != {SyncState.IN_SYNC}:
            raise typer.Exit(UNKNOWN)


@app.command(epilog="Example:  hub desired clear pump-001 target_pressure")
@with_option_groups
def clear(
    device: Device,
    names: Annotated[list[str], Argument(metavar="NAME", help="Settings for which no value is desired any more.")],
    expect: Expect = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Remove desired values of a device. The value in force stays until something else changes it."""
    command = "hub desired clear"
    if wrong := next((name for name in names if "=" in name), None):
        fail(command, f"{wrong} is no name of a setting: write NAME", MISUSE)
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        body = {"values": dict.fromkeys(names), "expected_version": expect}
        shown = client.send("PATCH", _path(device), body=body)
    typer.echo(json.dumps(shown) if as_json else f"cleared {printable(', '.join(names))} (version {shown['version']})")


def _path(device: str) -> str:
    return f"/api/v1/devices/{quote(device, safe='')}/desired"


def _follow(
    client: HubClient, shown: dict[str, Any], names: Collection[str], timeout_s: float, *, visible: bool
) -> dict[str, Any]:
    """Wait until the device has each of these desired values, or has rejected it. Print each state on the way."""
    give_up_s = time.monotonic() + timeout_s
    printed: dict[str, str] = {}
    while True:
        desired = _desired(shown, names)
        waiting = {name: _line(name, row) for name, row in desired.items() if row["state"] not in SETTLED}
        for name, line in waiting.items() if visible else ():
            if printed.get(name) != line:
                typer.echo(line, err=True)
        printed = waiting
        left_s = give_up_s - time.monotonic()
        if not waiting or left_s <= 0:
            return shown
        try:
            shown = client.get(
                _path(shown["device"]), {"wait_s": f"{min(WAIT_S, left_s):.1f}", "seen": shown["revision"]}
            )
        except RequestFailed as failure:
            # The hub restarts, or the network is interrupted: the desired value is on its disk.
            if failure.status is not None or left_s <= 1:
                raise
            time.sleep(0.2)


def _desired(shown: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the desired values with these names, as far as there are any."""
    rows = {setting["name"]: setting["desired"] for setting in shown["settings"]}
    return {name: rows[name] for name in names if rows.get(name) is not None}


def _line(name: str, desired: dict[str, Any]) -> str:
    reason = desired["message"] or desired["code"]
    state = f"{_words(desired['state'])}{f', {reason}' if reason else ''}"
    return printable(f"{name}={_value(desired['value'])}: {state}")


def _about(shown: dict[str, Any]) -> str:
    """Return the version, and the time of the report."""
    if shown["reported_ns"] is None or all(setting["reported"] is None for setting in shown["settings"]):
        return f"version {shown['version']}, nothing reported yet"
    since = "" if shown["is_current"] else "; nothing since it connected last, or it is offline"
    return f"version {shown['version']}, reported {time_text(shown['reported_ns'])} UTC{since}"


def _words(state: str) -> str:
    return state.replace("_", " ")


def _value(value: object) -> str:
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
