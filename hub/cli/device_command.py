"""`hub command`: send commands to devices, and list, show and cancel them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn
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
from hub.cli.command_job import UNKNOWN, JobOptions, SendOptions, cancel_job, list_jobs, send_to_many, show_job
from hub.cli.command_parameters import check_id, command_text, confirm, read_parameters, value_text
from hub.model.command import CommandPhase
from hub.model.identity import Role

WAIT_S = 20
"""Longest wait of one request for the next state of a command; below the client's time-out."""

MAX_RETRY_S = 60.0
"""Longest time in which a command is sent again to a hub that does not answer; less if its time-out is less."""

QUEUE_INSTEAD = ": queue the command instead"
"""End of the hub's sentence about a call to a device that is not connected. Here it is an option."""

RESULT_MARGIN_S = 5.0
"""Wait for the hub's own end of a call after its time-out, before the command gives up."""

app = typer.Typer(
    no_args_is_help=True,
    help="Send commands to devices, and see what became of them.",
    epilog="Example:  hub command send vehicle-001 set_speed speed=50",
)

Device = Annotated[str, Argument(metavar="DEVICE", help="Id of the device.")]
Id = Annotated[str, Argument(metavar="ID", help="Id of the command, as `hub command list` shows it.")]


@app.command(
    epilog="Examples:\n\n  hub command send vehicle-001 set_speed speed=50 --queue --ttl 3600\n\n"
    "  hub command send --to 'vehicle-*' --to type=vehicle set_speed speed=50 --batch 10"
)
@with_option_groups
def send(
    device: Annotated[
        str | None, Argument(metavar="DEVICE", help="Id of the device. Left out with --to, and needed without it.")
    ] = None,
    name: Annotated[
        str | None, Argument(metavar="NAME", help="Name of the command. Without it, those of the device are listed.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        Argument(metavar="NAME=VALUE", help="Parameters: numbers, true, false, or texts."),
    ] = None,
    *,
    options: SendOptions,
    job: JobOptions,
    hub: HubOptions,
) -> None:
    """Send a command to a device, or with --to to many devices in batches, and wait for the result.

    Exit code: 0 succeeded (with --queue: recorded), 1 failed, rejected or not sent, 2 wrong command or parameters, 3 if
    the outcome is not known.
    """
    command = "hub command send"
    if job.to:
        words = [word for word in (device, name, *(parameters or ())) if word is not None]
        if not words:
            fail(command, "the NAME of the command is missing: write it after --to SELECTION", MISUSE)
        send_to_many(command, words, options, job, hub)
        return
    if job != JobOptions():
        fail(command, "--batch, --stop-at, --deadline and --dry-run are for many devices: add --to SELECTION", MISUSE)
    if device is None:
        fail(command, "name the DEVICE, or select devices with --to SELECTION", MISUSE)
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        declared = client.get(f"{_path(device)}/declared")["commands"]
        if name is None:
            _list_declared(device, declared, options.as_json)
            return
        known = next((item for item in declared if item["name"] == name), None)
        if known is None:
            _refuse_unknown(command, device, name, declared)
        body = {
            "name": name,
            "parameters": read_parameters(command, parameters or (), known),
            "mode": "queue" if options.queue else "call",
            "timeout_s": options.timeout,
            "ttl_s": options.ttl,
            "confirmed": options.yes or not known["confirm"] or confirm(command, device, known),
        }
        sent = _send(client, device, body)
        if not options.queue:
            sent = _follow(client, sent, visible=not options.as_json)
    if options.as_json:
        typer.echo(json.dumps(sent))
    else:
        _print_end(sent)
    state = CommandPhase(sent["state"])
    if options.queue or state is CommandPhase.SUCCEEDED:
        return
    raise typer.Exit(UNKNOWN if state is CommandPhase.TIMED_OUT or state.is_open else FAILED)


@app.command("list", epilog="Example:  hub command list vehicle-001 --state queued")
@with_option_groups
def list_commands(
    device: Device,
    state: Annotated[
        list[CommandPhase] | None, Option("--state", help="Only commands in this state; repeatable.")
    ] = None,
    limit: Annotated[int, Option("--limit", metavar="N", min=1, help="Show the newest N.")] = 20,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """List the commands of a device, the newest first."""
    with hub_client("hub command list", hub) as client:
        found, more = client.get_pages(_path(device), "commands", {"state": state}, limit)
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        about = "no command of {} is in this state" if state else "no command was sent to {} yet"
        typer.echo(about.format(printable(device)), err=True)
        return
    table = plain_table("id", "time (UTC)", "command", "state", "reason", "by")
    for row in found:
        table.add_row(
            *cells(
                row["id"],
                time_text(row["created_ns"]),
                command_text(row),
                _state(row),
                row["message"],
                row["operator"],
            )
        )
    stdout_console().print(table)
    if more:
        typer.echo("there are more: raise --limit", err=True)


@app.command(epilog="Example:  hub command show vehicle-001 4f1c9a2e7b3d5860a1b2c3d4e5f60718")
@with_option_groups
def show(device: Device, id: Id, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """Show a command with each of its states, and the reasons."""
    check_id("hub command show", id)
    with hub_client("hub command show", hub) as client:
        row = client.get(f"{_path(device)}/{quote(id, safe='')}")
    if as_json:
        typer.echo(json.dumps(row))
        return
    job = f", job {row['job']}" if row["job"] else ""
    typer.echo(printable(f"{command_text(row)} ({row['mode']}) by {row['operator']}{job}"))
    table = plain_table("time (UTC)", "state", "code", "reason")
    for state in row["states"]:
        table.add_row(*cells(time_text(state["time_ns"]), state["state"], state["code"], state["message"]))
    stdout_console().print(table)
    if row["result"] is not None:
        typer.echo(f"result: {value_text(row['result'])}")
    if row["late"]:
        typer.echo("the device reported after the hub had stopped waiting")


@app.command(epilog="Example:  hub command cancel vehicle-001 4f1c9a2e7b3d5860a1b2c3d4e5f60718")
@with_option_groups
def cancel(device: Device, id: Id, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """Cancel a command that is not sent yet. One that was sent cannot be taken back."""
    check_id("hub command cancel", id)
    with hub_client("hub command cancel", hub, role=Role.OPERATOR) as client:
        row = client.send("POST", f"{_path(device)}/{quote(id, safe='')}/cancel")
    typer.echo(json.dumps(row) if as_json else f"cancelled {printable(row['name'])} ({row['id']})")


@app.command(epilog="Example:  hub command jobs 9d1c04a2e7b3d5860a1b2c3d4e5f6071")
@with_option_groups
def jobs(
    job: Annotated[
        str | None, Argument(metavar="JOB", help="Id of the job. Without it, the jobs are listed, the newest first.")
    ] = None,
    cancel: Annotated[
        bool, Option("--cancel", help="End the job: nothing is sent any more, and what is not sent is cancelled.")
    ] = False,
    limit: Annotated[int, Option("--limit", metavar="N", min=1, help="Show the newest N.")] = 20,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """List the commands that were sent to many devices; show one with the devices that failed, or cancel it."""
    if job is not None:
        check_id("hub command jobs", job)
    if job is None:
        if cancel:
            fail("hub command jobs", "--cancel: name the JOB to cancel", MISUSE)
        list_jobs(limit, as_json, hub)
    elif cancel:
        cancel_job(job, as_json, hub)
    else:
        show_job(job, as_json, hub)


def _path(device: str) -> str:
    return f"/api/v1/devices/{quote(device, safe='')}/commands"


def _list_declared(device: str, declared: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(declared))
        return
    if not declared:
        typer.echo(f"{printable(device)} declares no command", err=True)
        return
    table = plain_table("command", "defaults", "asks first", "description")
    for item in declared:
        table.add_row(
            *cells(item["usage"], _defaults(item), "yes" if item["confirm"] else "", item["description"]),
        )
    stdout_console().print(table)


def _defaults(declared: dict[str, Any]) -> str:
    """Return the defaults of a command's parameters in one line."""
    parameters = (row for row in declared["parameters"] if row["default"] is not None)
    return " ".join(f"{row['name']}={value_text(row['default'])}" for row in parameters)


def _send(client: HubClient, device: str, body: dict[str, object]) -> dict[str, Any]:
    """Send a command under an id of its own, and again with the same id if the hub restarts before its answer."""
    give_up_s = time.monotonic() + min(float(str(body["timeout_s"])), MAX_RETRY_S)
    try:
        sent: dict[str, Any] = client.send_until(
            give_up_s, "POST", _path(device), body={**body, "id": secrets.token_hex(16)}
        )
    except RequestFailed as failure:
        why = str(failure).removesuffix(QUEUE_INSTEAD)
        if failure.code != "not_connected" or why == str(failure):
            raise
        raise RequestFailed(f"{why}; add --queue to let it wait", failure.status, failure.code) from None
    return sent


def _refuse_unknown(command: str, device: str, name: str, declared: Sequence[dict[str, Any]]) -> NoReturn:
    if not declared:
        fail(command, f"{device} declares no command", MISUSE)
    usages = "".join(f"\n  {item['usage']}" for item in declared)
    fail(command, f"{device} has no command {name}; it has{usages}", MISUSE)


def _follow(client: HubClient, sent: dict[str, Any], *, visible: bool) -> dict[str, Any]:
    """Wait until a command has ended, and print each state on the way."""
    path = f"{_path(sent['device'])}/{sent['id']}"
    shown = 0
    give_up_s = time.monotonic() + sent["timeout_ms"] / 1000 + RESULT_MARGIN_S
    while True:
        for state in sent["states"][shown:] if visible else ():
            if CommandPhase(state["state"]).is_open:
                typer.echo(_progress(state), err=True)
        shown = len(sent["states"])
        left_s = give_up_s - time.monotonic()
        if not CommandPhase(sent["state"]).is_open or left_s <= 0:
            return sent
        try:
            sent = client.get(path, {"wait_s": f"{min(WAIT_S, left_s):.1f}", "seen": shown})
        except RequestFailed as failure:
            # The hub restarts, or the network is interrupted: the command is on its disk, and continues without us.
            if failure.status is not None or left_s <= 1:
                raise
            time.sleep(0.2)


def _progress(state: dict[str, Any]) -> str:
    """Return a state on the way to the end in one line. `hub command show` has the whole sentence of the agent."""
    message = "kept in memory" if state["code"] == "not_durable" else state["message"]
    return printable(": ".join(filter(None, (state["state"], message))))


def _print_end(row: dict[str, Any]) -> None:
    if row["state"] == CommandPhase.SUCCEEDED and row["result"] is not None:
        typer.echo(f"{_state(row)}: {value_text(row['result'])}")
    else:
        typer.echo(printable(": ".join(filter(None, (_state(row), row["message"] or row["code"])))))
    if row["state"] != CommandPhase.SUCCEEDED:
        typer.echo(f"see `hub command show {printable(row['device'])} {row['id']}`", err=True)


def _state(row: dict[str, Any]) -> str:
    state: str = row["state"].replace("_", " ")
    return state + (", late" if row["late"] else "")
