"""A real hub whose port speaks TLS, with certificates that a test may replace."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from tests.certificates import Issued
from tests.end_to_end.hub import Hub, running_hub


def install(made: Issued, folder: Path) -> None:
    """Put a certificate and its key where `tls_hub` looks for them, each file at once."""
    for source, name in zip(made, ("certificate.pem", "key.pem"), strict=True):
        shutil.copy(source, folder / f"new-{name}")
        (folder / f"new-{name}").rename(folder / name)


@contextlib.asynccontextmanager
async def tls_hub(folder: Path, made: Issued, settings: str = "") -> AsyncIterator[Hub]:
    install(made, folder)
    config = folder / "hub.toml"
    files = f'certificate = "{folder}/certificate.pem"\nkey = "{folder}/key.pem"'
    config.write_text(f'[tls]\n{files}\n{settings}\n[log]\nformat = "json"\n')
    async with running_hub(folder / "data", options=("--config", str(config))) as hub:
        yield hub
