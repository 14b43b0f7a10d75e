"""RunSettings of a small simulation."""

from __future__ import annotations

from device_sim.report import RunSettings


def some_settings(hub: str, **changes: object) -> RunSettings:
    """Return settings of five devices that read ten times a second for half a second."""
    options: dict[str, object] = {
        "hub": hub, "devices": 5, "rate_hz": 10.0, "duration_s": 0.5, "ramp_up_s": 0.0, "batch_rows": 1, "seed": 1,
        "profiles": ["pump", "vehicle"], "prefix": "",
    }  # fmt: skip
    return RunSettings(**{**options, **changes})  # type: ignore[arg-type]
