"""The tables of jobs: their bounds, rows that are damaged, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from hub.ingest.command_dispatcher import IdInUse
from hub.model.command import cancelled, new_command
from hub.model.command_job import (
    KEPT_JOBS,
    Attempt,
    CommandJob,
    EndJob,
    JobProgress,
    JobState,
    TargetState,
    command_id,
    ended,
    new_job,
)
from hub.registry import command
from hub.registry.command import change_commands, select_command
from hub.registry.command_job import (
    MAX_JOB_PAGE,
    delete_old_jobs,
    end_job,
    insert_job,
    mend,
    select_job,
    select_jobs,
    select_open_jobs,
    start_targets,
)
from hub.registry.command_target import MAX_TARGET_PAGE, insert_targets, select_progress, select_targets
from hub.registry.database import RegistryError, open_database, transaction
from hub.registry.registry import Registry
from wire.errors import Code

DEVICES = [f"pump-{number}" for number in range(5)]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    with closing(open_database(tmp_path / "registry.db")) as connection:
        yield connection


def job(number: int, targets: int = len(DEVICES), batch_size: int = 2) -> CommandJob:
    return new_job(
        id=f"{number:032x}", to=["pump-*"], name="stop", parameters={"speed": 1.5, "mode": "é"}, operator="operator o",
        now_ns=number, life_s=600, timeout_ms=1000, ttl_s=60, is_confirmed=False, batch_size=batch_size,
        stop_share=0.2, targets=targets,
    )  # fmt: skip


def insert(connection: apsw.Connection, made: CommandJob) -> CommandJob:
    targets = [(place // made.batch_size, device) for place, device in enumerate(DEVICES[: made.targets])]
    insert_targets(connection, made.id, targets)
    return insert_job(connection, made, 1)


def start(connection: apsw.Connection, made: CommandJob, *devices: str) -> None:
    start_targets(connection, made.id, [attempt(made, device) for device in devices], 5)


def attempt(made: CommandJob, device: str) -> Attempt:
    record = new_command(
        id=command_id(made.id, device), device=device, name="stop", parameters={}, operator="operator o", now_ns=5,
        timeout_ms=1, ttl_s=60, job=made.id,
    )  # fmt: skip
    return Attempt(device, record)


def end(connection: apsw.Connection, made: CommandJob, state: JobState = JobState.COMPLETED) -> None:
    end_job(connection, made.id, partial(ended, end=EndJob(state), now_ns=9), "its job", 9)


def states(connection: apsw.Connection, made: CommandJob) -> list[str]:
    return [target.state.value for target in select_targets(connection, made.id, limit=100)]


def test_a_job_is_read_as_it_was_written(connection: apsw.Connection) -> None:
    """With its number and its targets in their order; the progress names the devices of the next batch."""
    stored = insert(connection, job(1))
    assert stored == select_job(connection, stored.id)
    assert [*select_open_jobs(connection), *select_jobs(connection, limit=5)] == [stored, stored]
    found = select_targets(connection, stored.id, limit=100)
    assert [(target.device, target.batch) for target in found] == [*zip(DEVICES, [0, 0, 1, 1, 2], strict=True)]
    after = select_targets(connection, stored.id, limit=1, after=found[2].number, states=[TargetState.PENDING])
    assert after == found[3:4]
    assert select_progress(connection, stored.id) == JobProgress({TargetState.PENDING: 5}, False, DEVICES[:2])
    start(connection, stored, *DEVICES[:1])
    counts = {TargetState.PENDING: 4, TargetState.QUEUED: 1}
    assert select_progress(connection, stored.id) == JobProgress(counts, True, DEVICES[1:2])


def test_a_target_gets_one_command_however_often_it_is_started(connection: apsw.Connection) -> None:
    """A refused one gets none, and none gets one after the end of the job."""
    made = insert(connection, job(1))
    refused = Attempt(DEVICES[1], None, "not_connected", "it is not connected")
    for _ in range(2):
        start_targets(connection, made.id, [attempt(made, DEVICES[0]), refused], 5)
    start(connection, made, DEVICES[1])
    assert states(connection, made) == ["queued", "refused", "pending", "pending", "pending"]
    found = select_targets(connection, made.id, limit=1, states=[TargetState.REFUSED])[0]
    assert (found.code, found.message, found.command) == ("not_connected", "it is not connected", "")
    assert select_command(connection, DEVICES[1], command_id(made.id, DEVICES[1])) is None
    end(connection, made, JobState.CANCELLED)
    start(connection, made, DEVICES[2])
    assert states(connection, made) == ["cancelled", "refused", "pending", "pending", "pending"]


def test_a_device_with_a_full_queue_is_refused(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other targets of the transaction get their commands."""
    made = insert(connection, job(1))
    monkeypatch.setattr(command, "insert_command", partial(command.insert_command, max_open=1))
    start(connection, made, *DEVICES[:2])
    assert states(connection, made)[:2] == ["queued", "refused"]
    assert select_targets(connection, made.id, limit=5)[1].code == "queue_full"


def test_jobs_have_bounds(connection: apsw.Connection) -> None:
    """An open job beyond the bound is refused; ended ones are deleted with their targets, the oldest first."""
    made = [insert(connection, job(number)) for number in range(1, 6)]
    with pytest.raises(RegistryError) as refused:
        insert_job(connection, job(9), 1, max_open=5)
    assert refused.value.code is Code.TOO_MANY
    for ended_job in made[:4]:
        end(connection, ended_job)
    for bounds, left in (({"in_all": 3}, [5, 4, 3, 2]), ({"kept_targets": 14}, [5, 4, 3]), ({"kept_ns": 5}, [5, 4])):
        delete_old_jobs(connection, 9, **bounds)
        assert [found.created_ns for found in select_jobs(connection, limit=9)] == left
    count = "SELECT count(DISTINCT job), count(*) FROM command_targets"
    assert connection.execute(count).fetchall() == [(2, 10)]


def test_a_new_job_deletes_the_oldest_ended_one(connection: apsw.Connection) -> None:
    """Beyond those that are kept. An answer has a bound, too."""
    with transaction(connection):
        for number in range(1, KEPT_JOBS + 3):
            end(connection, insert(connection, job(number, 1)))
        for number in range(KEPT_JOBS + 3, KEPT_JOBS + 5):
            insert(connection, job(number, 1))
        found = [stored.created_ns for stored in select_jobs(connection, limit=1_000)]
    assert found == [*range(KEPT_JOBS + 4, 3, -1)]
    assert len(found) == MAX_JOB_PAGE + 1
    assert select_job(connection, job(3).id) is not None
    assert select_job(connection, job(2).id) is None


def test_damage_of_a_target_does_not_stop_its_command(connection: apsw.Connection) -> None:
    """A command that is lost by damage ends its target, and a target that differs follows its command at the start."""
    made = insert(connection, job(1))
    start(connection, made, *DEVICES[:3])
    connection.execute("UPDATE command_targets SET checksum = checksum + 1 WHERE number = 1")
    cancel = partial(cancelled, operator="operator o", now_ns=6)
    id = command_id(made.id, DEVICES[0])
    with capture_logs() as logged:
        assert change_commands(connection, DEVICES[0], [id], cancel, 6)[0].is_changed
        assert [target.device for target in select_targets(connection, made.id, limit=5)] == DEVICES[1:]
    assert [entry["device"] for entry in logged if entry["log_level"] == "error"] == [DEVICES[0]] * 2
    connection.execute("UPDATE command_targets SET checksum = checksum - 1 WHERE number = 1")
    connection.execute("DELETE FROM commands WHERE device = ?", (DEVICES[1],))
    assert states(connection, made)[:3] == ["queued", "queued", "queued"]
    mend(connection, 6)
    assert states(connection, made)[:3] == ["cancelled", "timed_out", "queued"]
    assert select_targets(connection, made.id, limit=5)[1].code == "command_lost"


def test_a_damaged_job_is_left_out(connection: apsw.Connection) -> None:
    """It is neither shown nor continued; the next start repairs the file."""
    for number in (1, 2):
        insert(connection, job(number))
    connection.execute("UPDATE command_jobs SET checksum = checksum + 1 WHERE number = 1")
    with capture_logs() as logged:
        assert [found.created_ns for found in select_open_jobs(connection)] == [2]
    assert [entry["number"] for entry in logged] == [1]


async def test_a_job_survives_a_restart_and_targets_without_a_job_do_not(tmp_path: Path) -> None:
    """Targets are written before their job, in transactions of their own: a crash between leaves some of them."""
    stored: list[CommandJob] = []
    devices = [f"pump-{number:04}" for number in range(1_100)]
    async with Registry(tmp_path / "registry.db") as registry:
        await registry.command_jobs.insert(job(1, 1_100, 100), devices, stored.append)
        await registry._thread.write(partial(insert_targets, job="x", devices=[(0, "pump")]))
    async with Registry(tmp_path / "registry.db") as registry:
        table = registry.command_jobs
        assert await table.open_jobs() == stored
        assert await table.targets("x", limit=1) == []
        assert [target.device for target in await table.targets(stored[0].id, limit=2)] == devices[:2]
        assert len(await table.targets(stored[0].id, limit=2_000)) == MAX_TARGET_PAGE + 1
        found = await table.job(stored[0].id)
        assert found is not None
        assert found[1].counts == {TargetState.PENDING: 1_100}
        assert [one for one, _ in await table.jobs(limit=2)] == stored
        with pytest.raises(IdInUse):
            await table.insert(job(1, 1), ["mill"], stored.append)
        assert await table.job(job(1).id) == found
        await registry._thread.write(partial(insert_targets, job=job(2).id, devices=[(0, "left-by-an-error")]))
        for number in range(2, 17):
            await table.insert(job(number, 1), ["pump"], stored.append)
        with pytest.raises(RegistryError):
            await table.insert(job(17, 1), ["pump"], stored.append)
        assert [target.device for target in await table.targets(job(2).id, limit=2)] == ["pump"]
        assert await table.targets(job(17).id, limit=1) == []
        assert await table.job(job(17).id) is None
