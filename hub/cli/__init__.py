"""The command line of the hub."""

from __future__ import annotations

import sys

NEEDED = frozenset(
    {
        "duckdb",
        "starlette",
        "influxdb_client",
        "line_protocol_parser",
        "numpy",
        "prometheus_client",
        "pyarrow",
        "pydantic",
        "pydantic_settings",
        "uvicorn",
    }
)


def main() -> None:
    """The `hub` command. Without the server's libraries it says how to get them and exits with 2."""
    try:
        from hub.cli.application import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        print(
            f"hub: the server's libraries are not installed ({error.name} is missing).\n"
            "Install them with:  pip install 'telemetry-hub[hub]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app()
