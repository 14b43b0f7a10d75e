"""Command `hub` that kills itself (kill -9) before or after the commit of one state of a command.

python -m tests.end_to_end.killed_hub FILE run --data DIR

FILE has the point, such as `received before 3`: before the commit of the state `received` of the command whose
parameter `speed` is 3. An empty file is no point.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hub.model.command import CommandRecord
from hub.registry import command, database


def kill_at(state: str, when: str, speed: str) -> None:
    """Replace the functions that write commands, and the one that commits, by ones that kill the process."""
    insert, change, commit = command.insert_command, command.change_commands, database._commit
    is_written = False

    def written(record: CommandRecord, states: Iterable[str]) -> None:
        nonlocal is_written
        if state in states and record.parameters["speed"] == float(speed):
            is_written = True
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)

    def insert_command(*arguments: Any) -> Any:
        record = insert(*arguments)
        written(record, [change.state.value for change in record.changes])
        return record

    def change_commands(*arguments: Any) -> Any:
        changes = change(*arguments)
        for stored in changes:
            if stored.is_changed and stored.record is not None:
                written(stored.record, [stored.record.state.value])
        return changes

    def commit_jobs(*arguments: Any) -> Any:
        outcomes = commit(*arguments)
        if is_written:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    vars(command).update(insert_command=insert_command, change_commands=change_commands)
    vars(database).update(_commit=commit_jobs)


if __name__ == "__main__":
    point = Path(sys.argv.pop(1)).read_text().split()
    if point:
        kill_at(*point)
    from hub.cli import main

    main()
