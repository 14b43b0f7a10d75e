"""`hub store compact`: gives the room that deletions left in DuckDB's file back to the disk."""

from __future__ import annotations

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from hub.cli.exit import fail
from hub.cli.options import Config, Data, settings_or_exit
from hub.cli.terminal import bytes_text, progress_bar
from hub.model.store import StoreError

COMMAND = "hub store compact"


def compact_store(config: Config = None, data: Data = None) -> None:
    """Write DuckDB's file anew: as large as what is in it, and sorted, so that old days are found faster.

    The hub must not run. The new file is written beside the old one, which needs as much room again, and takes its
    place when it is complete and has every reading; when that is interrupted, nothing has happened.
    """
    # Imported only here: the other subcommands do not need DuckDB.
    from hub.storage.duckdb.compaction import compact
    from hub.storage.duckdb.database import FILE_NAME

    settings = settings_or_exit(config, data=data)
    columns = (TextColumn("compacting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=1.0)
            compacted = compact(
                settings.data / FILE_NAME,
                memory_limit=settings.store.memory_limit,
                threads=settings.store.threads,
                report_progress=lambda share: progress.update(task, completed=share),
            )
    except StoreError as error:
        fail(COMMAND, str(error))
    given_back = compacted.before_bytes - compacted.after_bytes
    typer.echo(
        f"{bytes_text(compacted.before_bytes)} before, {bytes_text(compacted.after_bytes)} now: "
        f"{bytes_text(max(0, given_back))} given back"
    )
