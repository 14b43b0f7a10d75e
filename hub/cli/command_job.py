"""`hub command send --to` and `hub command jobs`: send a command to many devices, and follow, show and cancel that."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import typer
from typer import Option

from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import (
    FAILED,
    MISUSE,
    AsJson,
    HubOptions,
    Yes,
    cells,
    fail,
    plain_table,
    printable,
    stdout_console,
    time_text,
)
from hub.cli.command_parameters import command_text, confirm, read_parameters
from hub.model.command import DEFAULT_TIMEOUT_S, DEFAULT_TTL_S
from hub.model.command_job import (
    DEFAULT_BATCH,
    DEFAULT_JOB_S,
    DEFAULT_STOP_SHARE,
    FAILED_TARGETS,
    MAX_BATCH,
    OPEN_TARGETS,
    JobState,
    TargetState,
)
from hub.model.identity import Role
from wire.text import plural

UNKNOWN = 3
"""Exit code if the outcome is not known: a device may execute the command, or may have executed it."""

WAIT_S = 20
"""Longest wait of one request for the next batch of a job; below the client's time-out."""

HUB_OUTAGE_S = 60.0
"""Time in which a hub that does not answer is asked again: it restarts, or the network is interrupted."""

SHOWN_TARGETS = 100
"""Targets that did not succeed in the output; there is JSON for more."""

_ENDS = (TargetState.SUCCEEDED, *sorted(FAILED_TARGETS))
_STATES = (*_ENDS, *sorted(OPEN_TARGETS), TargetState.PENDING)

PATH = "/api/v1/command-jobs"
NEVER = "never"


@dataclass(frozen=True)
class SendOptions:
    """Options of a command that is sent."""

    queue: Annotated[
        bool, Option("--queue", help="Let the command wait if the device is not connected, and do not wait for it.")
    ] = False
    timeout: Annotated[float, Option("--timeout", metavar="SECONDS", help="Time for the result.")] = DEFAULT_TIMEOUT_S
    ttl: Annotated[
        float, Option("--ttl", metavar="SECONDS", help="With --queue: time after which the command is not sent.")
    ] = DEFAULT_TTL_S
    yes: Yes = False
    as_json: AsJson = False


@dataclass(frozen=True)
class JobOptions:
    """Options of a command that is sent to many devices."""

    to: Annotated[
        list[str] | None,
        Option(
            "--to",
            metavar="SELECTION",
            help="Send to every device with this id ('pump-*') or tag (site=north); repeatable. No DEVICE then.",
        ),
    ] = None
    batch: Annotated[
        int, Option("--batch", metavar="N", min=1, max=MAX_BATCH, help="With --to: send to so many devices at a time.")
    ] = DEFAULT_BATCH
    stop_at: Annotated[
        str,
        Option(
            "--stop-at",
            metavar="PERCENT",
            help=f"With --to: begin no further batch if so many ended without success; or '{NEVER}'.",
        ),
    ] = f"{DEFAULT_STOP_SHARE:.0%}"
    deadline: Annotated[
        float, Option("--deadline", metavar="SECONDS", help="With --to: time after which nothing is sent any more.")
    ] = DEFAULT_JOB_S
    dry_run: Annotated[bool, Option("--dry-run", help="With --to: only show the devices.")] = False


def send_to_many(command: str, words: Sequence[str], options: SendOptions, job: JobOptions, hub: HubOptions) -> None:
    """Send a command to every selected device, and wait for the end of the job. `words`: the command's name first."""
    name, *parameters = words
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        body: dict[str, object] = {
            "to": job.to,
            "name": name,
            "mode": "queue" if options.queue else "call",
            "timeout_s": options.timeout,
            "ttl_s": options.ttl,
            "batch_size": job.batch,
            "stop_share": _share(command, job.stop_at),
            "deadline_s": job.deadline,
        }
        known = client.send("POST", f"{PATH}/dry-run", body={**body, "confirmed": True})
        if known["command"] is None:
            _refuse_unknown(command, client, job.to or (), name)
        body["parameters"] = read_parameters(command, parameters, known["command"])
        _warn_of_units(known)
        if job.dry_run:
            found = client.send("POST", f"{PATH}/dry-run", body={**body, "confirmed": True})
            _print_dry_run(found, options.as_json)
            _warn_of_one_batch(found, job)
            return
        to = plural(known["targets"], "device")
        body["confirmed"] = options.yes or not known["command"]["confirm"] or confirm(command, to, known["command"])
        body["id"] = secrets.token_hex(16)
        made = client.send_until(time.monotonic() + HUB_OUTAGE_S, "POST", PATH, body=body)
        batches = plural(made["batches"], "batch", "batches")
        typer.echo(f"job {made['id']}: {plural(made['targets'], 'device')} in {batches}", err=True)
        _warn_of_one_batch(made, job)
        if not options.queue:
            made = _follow(client, made, visible=not options.as_json)
    typer.echo(json.dumps(made) if options.as_json else _summary(made))
    if options.queue:
        return
    if made["failed"] and not options.as_json:
        typer.echo(f"see `hub command jobs {made['id']}`", err=True)
    if made["state"] != JobState.COMPLETED or made["failed"] > made["counts"]["timed_out"]:
        raise typer.Exit(FAILED)
    if made["failed"]:
        raise typer.Exit(UNKNOWN)


def list_jobs(limit: int, as_json: bool, hub: HubOptions) -> None:
    """Print the newest jobs."""
    with hub_client("hub command jobs", hub) as client:
        found, more = client.get_pages(PATH, "jobs", {}, limit)
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo("there are no command jobs", err=True)
        return
    table = plain_table("id", "time (UTC)", "command", "to", "progress", "by")
    for row in found:
        to = " ".join(row["to"])
        table.add_row(
            *cells(row["id"], time_text(row["created_ns"]), command_text(row), to, _summary(row), row["operator"])
        )
    stdout_console().print(table)
    if more:
        typer.echo("there are more: raise --limit", err=True)


def show_job(id: str, as_json: bool, hub: HubOptions) -> None:
    """Print a job with its states, its counts, and the targets that did not succeed."""
    path = f"{PATH}/{quote(id, safe='')}"
    with hub_client("hub command jobs", hub) as client:
        row = client.get(path)
        states = sorted(state.value for state in FAILED_TARGETS)
        limit = None if as_json else SHOWN_TARGETS
        failed, more = client.get_pages(f"{path}/targets", "targets", {"state": states}, limit)
    if as_json:
        typer.echo(json.dumps({**row, "failed_targets": failed}))
        return
    typer.echo(printable(f"{command_text(row)} ({row['mode']}) to {' '.join(row['to'])} by {row['operator']}"))
    table = plain_table("time (UTC)", "state", "code", "reason")
    for state in row["states"]:
        table.add_row(*cells(time_text(state["time_ns"]), state["state"], state["code"], state["message"]))
    stdout_console().print(table)
    typer.echo(_summary(row))
    if failed:
        table = plain_table("device", "batch", "state", "reason", "command")
        for target in failed:
            reason = target["message"] or target["code"]
            state = target["state"].replace("_", " ")
            table.add_row(*cells(target["device"], target["batch"], state, reason, target["command"]))
        stdout_console().print(table)
    if more:
        typer.echo("there are more: --json has all of them", err=True)


def cancel_job(id: str, as_json: bool, hub: HubOptions) -> None:
    """Cancel a job, and print what became of its targets."""
    with hub_client("hub command jobs", hub, role=Role.OPERATOR) as client:
        row = client.send("POST", f"{PATH}/{quote(id, safe='')}/cancel")
    typer.echo(json.dumps(row) if as_json else _summary(row))


def _share(command: str, text: str) -> float | None:
    if text == NEVER:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        fail(command, f"--stop-at {text}: write a share from 0% to 100%, or {NEVER}", MISUSE)
    return share


def _refuse_unknown(command: str, client: HubClient, to: Sequence[str], name: str) -> NoReturn:
    """End the command, which no selected device declares, with those that the devices declare."""
    found = client.get(f"{PATH}/declared", {"to": to})
    names = ", ".join(row["command"]["name"] for row in found["commands"])
    have = f"they have {names}" if names else "they declare no command"
    fail(command, f"none of the selected devices ({found['targets']:,}) has the command {name}: {have}", MISUSE)


def _warn_of_one_batch(made: dict[str, Any], job: JobOptions) -> None:
    """Say that the share of failures does not stop a job with one batch: it is compared between two batches."""
    if made["batches"] == 1 and made["targets"] > 1 and job.stop_at != NEVER:
        typer.echo("one batch: --stop-at has no effect; a smaller --batch makes several", err=True)


def _warn_of_units(found: dict[str, Any]) -> None:
    """Warn of devices that take a parameter in another unit than most of the selected ones."""
    for row in found["units"]:
        number = f"{row['devices']:,} of {plural(found['targets'], 'device')}"
        verb = "takes" if row["devices"] == 1 else "take"
        unit = f"in {row['unit']}" if row["unit"] else "without a unit"
        text = f"warning: {number} {verb} {row['parameter']} {unit} instead of {row['expected'] or 'no unit'}"
        typer.echo(printable(text), err=True)


def _print_dry_run(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = plain_table("device", "batch", "would be refused")
    for device in found["devices"]:
        table.add_row(*cells(device["device"], device["batch"], device["message"]))
    stdout_console().print(table)
    refused = f", {found['refused']:,} would be refused" if found["refused"] else ""
    batches = plural(found["batches"], "batch", "batches")
    typer.echo(f"{plural(found['targets'], 'device')} in {batches}{refused}; nothing is sent", err=True)


def _follow(client: HubClient, job: dict[str, Any], *, visible: bool) -> dict[str, Any]:
    """Wait until a job has ended, and print its progress after each batch."""
    shown = job["ended"]
    answered_s = time.monotonic()
    while JobState(job["state"]).is_open:
        batch_end = min((job["ended"] // job["batch_size"] + 1) * job["batch_size"], job["targets"])
        try:
            job = client.get(f"{PATH}/{job['id']}", {"wait_s": WAIT_S, "seen": batch_end - 1})
            answered_s = time.monotonic()
        except RequestFailed as failure:
            # The job is on the disk of the hub, and continues without this command.
            if failure.status is not None or time.monotonic() > answered_s + HUB_OUTAGE_S:
                raise
            time.sleep(0.2)
        if visible and job["ended"] > shown:
            typer.echo(f"{job['ended']:,} of {job['targets']:,}: {_counts(job, _ENDS)}", err=True)
            shown = job["ended"]
    return job


def _summary(job: dict[str, Any]) -> str:
    reason = f" ({job['message']})" if job["message"] else ""
    return printable(f"{job['state']}{reason}: {_counts(job)}")


def _counts(job: dict[str, Any], states: Sequence[TargetState] = _STATES) -> str:
    """Return how many targets have each of these states."""
    is_open = JobState(job["state"]).is_open
    words = {TargetState.TIMED_OUT: "timed out"} | ({} if is_open else {TargetState.PENDING: "not sent"})
    counts = ((words.get(state, state.value), job["counts"][state.value]) for state in states)
    return ", ".join(f"{count:,} {word}" for word, count in counts if count)
