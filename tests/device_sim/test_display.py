from __future__ import annotations

import io

from rich.console import Console

from device_sim.display import Snapshot, report_table, snapshot_line, snapshot_table
from device_sim.report import Amounts, AssertionResult
from tests.device_sim.reports import GOOD, a_report

NOW = Snapshot(12.4, 60.0, 20, 19, 12_345, 12_300, 45, 0, 1000.0, 995.4, 1.25, 8.5, 0.4)


def shown(renderable: object) -> str:
    """Return the output of a wide terminal without colours."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_of_a_log_has_the_figures() -> None:
    """Without a terminal a line shows the progress of the run."""
    line = snapshot_line(NOW)
    for figure in ("19/20", "12,345", "12,300", "995/s", "waiting 45", "lost 0", "p50 1.2 ms", "p99 8.5 ms"):
        assert figure in line


def test_a_terminal_shows_the_same_figures() -> None:
    """On a terminal the same is a table, with how long there is to go."""
    text = shown(snapshot_table(NOW))
    for figure in ("of 60 s", "19", "of 20 devices", "12,345", "12,300", "995 readings/s", "45", "p99 8.5 ms"):
        assert figure in text
    assert "until stopped" in shown(snapshot_table(NOW._replace(duration_s=None)))
    assert "7 lost" in shown(snapshot_table(NOW._replace(lost=7)))


def test_a_fleet_without_a_connection_shows_why() -> None:
    """The reason is in the line and in the table, and is no markup."""
    reason = "the proxy [in front] does not pass WebSocket upgrades"
    assert snapshot_line(NOW._replace(problem=reason)).endswith(f"  {reason}")
    assert reason in shown(snapshot_table(NOW._replace(problem=reason)))


def test_reports_stand_side_by_side() -> None:
    """Each run has a column; what one of them lacks is said to be not known."""
    worse = a_report(
        readings=Amounts(1300, 1290, 0, 10),
        hub=None,
        assertions=[AssertionResult("lost==0", False, "10")],
        problems=["late"],
    )
    lines = {
        line.split("│")[1].strip(): line
        for line in shown(report_table([("a", GOOD), ("b", worse)])).splitlines()
        if "│" in line
    }
    assert "1,200" in lines["readings sent"]
    assert "1,300" in lines["readings sent"]
    assert "unknown" in lines["readings stored"]
    assert "fails (10)" in lines["lost==0"]
    assert "none" in lines["problems"]
    assert "late" in lines["problems"]
    assert lines["verdict"].split("│")[2].strip() == "ok"
    assert lines["verdict"].split("│")[3].strip() == "not ok"
