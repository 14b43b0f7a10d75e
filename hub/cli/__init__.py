"""The command line of the hub."""

from __future__ import annotations

import sys

LIBRARIES = frozenset(
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
    """Run the `hub` command. If libraries of the server are missing, print how to install them and exit with 2."""
    try:
        from hub.cli.application import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in LIBRARIES:
            raise
        print(
            f"hub: the libraries of the server are not installed ({error.name} is missing).\n"
            "Install them in the folder of the sources with:  pip install '.[hub]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app()
