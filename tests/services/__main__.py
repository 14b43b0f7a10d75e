"""Command `python -m tests.services`: builds the servers and clients that are missing and prints what is available.

The exit code is 1 when something is missing and CI=true forbids skipped tests.
"""

from __future__ import annotations

import os
import sys
import time

from tests.services.built import BuildError, build, built_path
from tests.services.clients import CLIENTS, INFLUXDB_CLIENT_JS, build_client
from tests.services.found import SERVICES, find_service, service_table
from tests.skips import skips_are_forbidden


def build_clients() -> bool:
    """Build the client programs that are missing; return whether one failed."""
    failed = False
    for program in (*CLIENTS, INFLUXDB_CLIENT_JS):
        if program.is_built():
            continue
        print(f"building the client {program.name} into {program.folder}", flush=True)
        begun = time.monotonic()
        try:
            build_client(program)
        except BuildError as error:
            print(f"  {error}")
            failed = True
        else:
            print(f"built the client {program.name} in {time.monotonic() - begun:.0f} s", flush=True)
    return failed


def main() -> int:
    reasons = {}
    for service in SERVICES:
        source = service.source
        if source is None or service.variable in os.environ or find_service(service).path is not None:
            continue
        print(f"building {service.name} {source.version} into {built_path(source).parent}", flush=True)
        begun = time.monotonic()
        try:
            build(source)
        except BuildError as error:
            reasons[service.name] = str(error)
        else:
            print(f"built {service.name} {source.version} in {time.monotonic() - begun:.0f} s", flush=True)
    failed = build_clients()
    find_service.cache_clear()
    print("services:", *service_table(reasons), sep="\n")
    missing = any(find_service(service).path is None for service in SERVICES)
    return 1 if (missing or failed) and skips_are_forbidden() else 0


if __name__ == "__main__":
    sys.exit(main())
