"""`hub backup` and `hub restore`: a consistent copy of the data directory, and its return."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import (
    AsJson,
    Config,
    Data,
    HubOptions,
    bytes_text,
    fail,
    settings_or_exit,
    time_text,
)
from hub.cli.verify import observed, print_findings
from hub.config.address import find_running_hub
from hub.model.identity import Role
from integrity.finding import exit_code
from wire.text import plural

if TYPE_CHECKING:
    from hub.app.backup import BackupResult
    from hub.app.manifest import Manifest
    from hub.app.restore import RestoreResult

RENEW_S = 5.0
"""Interval at which a hold on the store is renewed, a sixth of the time after which it ends."""

HOLDS = "/api/v1/store/holds"


def backup(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="New folder for the backup.", show_default=False)],
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy everything that the hub keeps to a new folder, and verify the copy. The hub may run meanwhile.

    A running hub continues to accept and show readings. While the file of the history is copied, new readings wait in
    the journal. FOLDER has its name only when the backup is complete, so it is never a part of one. Run this on the
    machine of the hub. InfluxDB is not contained: back it up after this command.

    Exits with 0 if the backup is complete and intact, with 1 if it failed, or if it is complete and contains damaged
    files of the hub, which are printed.

    Example:  hub backup /backup/$(date +%F)
    """
    # Imported here: the other commands need none of the libraries of the stores.
    from hub.app import HubError

    settings = settings_or_exit(config, data=data)
    try:
        result = _back_up(settings.data, folder, config)
    except HubError as error:
        fail("hub backup", str(error))
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **_facts(result.manifest)}, ensure_ascii=False))
    else:
        typer.echo(f"{folder}: {_contents(result.manifest)}")
    code = exit_code(result.findings)
    if code:
        print_findings([finding for finding in result.findings if not finding.intact])
        fail(
            "hub backup",
            "the backup is complete, and files in it are not intact, because those of the hub are not. Keep an older "
            "backup until this is repaired",
        )


def restore(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Folder of a backup.", show_default=False)],
    replace: Annotated[
        bool, Option("--replace", help="Move the present files of the data directory into a folder there.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Verify a backup and put its files into the data directory, on which no hub may run.

    Afterwards start the hub: agents send again what they still have of the readings after the backup.

    Example:  hub restore /backup/2026-11-28 --replace
    """
    from hub.app import HubError
    from hub.app.restore import restore as restore_backup

    settings = settings_or_exit(config, data=data)
    try:
        with observed("restoring", lambda finding: None) as observer:
            result = restore_backup(folder, settings.data, observer, replace=replace)
    except HubError as error:
        fail("hub restore", str(error))
    if as_json:
        replaced = None if result.replaced is None else str(result.replaced)
        typer.echo(json.dumps({"replaced": replaced, **_facts(result.manifest)}, ensure_ascii=False))
    else:
        _print_restored(settings.data, result)


def _back_up(data: Path, folder: Path, config: Path | None) -> BackupResult:
    from hub.app.backup import back_up, stopped_hub
    from hub.app.data_directory import check_hub

    check_hub(data)

    with observed("copying", lambda finding: None) as observer:
        if find_running_hub(data) is None:
            with stopped_hub(data):
                return back_up(data, folder, nullcontext(lambda: None), observer, is_running=False)
        with hub_client("hub backup", HubOptions(config=config, data=data), role=Role.ADMIN) as client:
            return back_up(data, folder, store_hold(client), observer, is_running=True)


@contextmanager
def store_hold(client: HubClient) -> Iterator[Callable[[], None]]:
    """Hold the store of a running hub; yield a function that renews the hold when it is due.

    Raises HubError if the hold cannot begin or has ended early: the files may have changed.
    """
    from hub.app import HubError

    try:
        hold = client.send("POST", HOLDS)["id"]
    except RequestFailed as failure:
        raise HubError(f"the history cannot be copied: {failure}") from None
    renewed_s = time.monotonic()

    def renew() -> None:
        nonlocal renewed_s
        if time.monotonic() - renewed_s >= RENEW_S:
            _send(client, "POST", hold)
            renewed_s = time.monotonic()

    try:
        yield renew
    except BaseException:
        # The hub also ends the hold by itself.
        with suppress(RequestFailed):
            client.send("DELETE", f"{HOLDS}/{hold}")
        raise
    _send(client, "DELETE", hold)


def _send(client: HubClient, method: str, hold: str) -> None:
    from hub.app import HubError

    try:
        client.send(method, f"{HOLDS}/{hold}")
    except RequestFailed as failure:
        raise HubError(f"the backup was not made: {failure}") from None


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "created_ns": manifest.created_ns,
        "hub": manifest.hub,
        "last_offset": manifest.last_offset,
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "damage": list(manifest.damage),
    }


def _contents(manifest: Manifest) -> str:
    size = bytes_text(sum(file.size_bytes for file in manifest.files))
    return f"{plural(len(manifest.files), 'file')}, {size}, the journal up to offset {manifest.last_offset:,}"


def _print_restored(data: Path, result: RestoreResult) -> None:
    manifest = result.manifest
    typer.echo(f"{data}: {_contents(manifest)}, as of {time_text(manifest.created_ns)} UTC")
    for damage in manifest.damage:
        typer.echo(f"damaged when the backup was made: {damage}")
    if result.replaced is not None:
        typer.echo(f"the files that were there are in {result.replaced}")
    typer.echo(
        "Next steps:\n"
        "  1. Start the hub. Agents send again what they still have.\n"
        "  2. Look at `hub flow`, and for events about lost batches on the pages of the devices.\n"
        "  3. Create tokens that were created after the backup again, and revoke those that were revoked since."
    )
