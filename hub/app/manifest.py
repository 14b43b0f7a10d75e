"""The manifest of a backup: what it contains, from when, and the size and digest of each file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from integrity.database import ReportBytes
from integrity.finding import Finding

FILE_NAME = "manifest.json"

FORMAT = 1

MAX_BYTES = 1 << 20
"""A manifest is 200 bytes for each file, and a backup has a few files and 256 wheels at most."""

PIECE_BYTES = 4 << 20
"""Bytes that are read at once: a disk is not faster with more."""

NEXT_STEP = "use another backup: this one is not what was written"


class BackupFile(msgspec.Struct, frozen=True):
    """A file of a backup: its name within the folder, its bytes, and their BLAKE2b digest of 256 bits."""

    name: Annotated[str, Meta(pattern=r"^(?:[A-Za-z0-9_+!-][A-Za-z0-9_.+!-]*/)?[A-Za-z0-9_+!-][A-Za-z0-9_.+!-]*$")]
    size_bytes: int
    blake2b: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a backup. `hub` and `journal` are ids, `version` is that of the hub's program.

    The journal ends at `last_offset`. `damage` lists what was damaged already when the backup was made.
    """

    format: int = FORMAT
    hub: str
    version: str
    created_ns: int
    journal: str
    last_offset: int
    damage: list[str] = []
    files: list[BackupFile]


class ManifestError(Exception):
    """The folder is no backup, or its manifest cannot be used; the message says why and what to do."""


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a backup. Raises ManifestError."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            manifest = msgspec.json.decode(file.read(MAX_BYTES), type=Manifest)
    except FileNotFoundError:
        raise ManifestError(
            f"{folder} is no backup: it has no {FILE_NAME}. Name a folder that hub backup wrote"
        ) from None
    except OSError as error:
        raise ManifestError(f"{folder / FILE_NAME} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ManifestError(f"{folder / FILE_NAME} is damaged ({error}): {NEXT_STEP}") from None
    if manifest.format != FORMAT:
        raise ManifestError(
            f"{folder} has format {manifest.format}, and this version reads format {FORMAT}: install version "
            f"{manifest.version} of the hub"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the folder, durably. Raises OSError."""
    content = msgspec.json.format(msgspec.json.encode(manifest))
    descriptor = os.open(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(descriptor)


def describe_file(folder: Path, name: str, report: ReportBytes) -> BackupFile:
    """Return the entry of a file for the manifest. Raises OSError."""
    digest, size = hashlib.blake2b(digest_size=32), 0
    with (folder / name).open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            report(len(piece))
    return BackupFile(name, size, digest.hexdigest())


def verify_files(folder: Path, manifest: Manifest, report: ReportBytes) -> list[Finding]:
    """Compare each file of a backup with its manifest."""
    findings = []
    for recorded in manifest.files:
        lost = "what the file contains cannot be restored from this backup"
        try:
            found = describe_file(folder, recorded.name, report)
        except FileNotFoundError:
            findings.append(Finding(recorded.name, False, "the file of the backup is missing", lost, NEXT_STEP))
        except OSError as error:
            findings.append(Finding(recorded.name, None, f"the file cannot be read: {error.strerror}"))
        else:
            if found != recorded:
                what = "its bytes differ from those that the backup wrote"
                findings.append(Finding(recorded.name, False, what, lost, NEXT_STEP))
            else:
                findings.append(Finding(recorded.name, True, "its bytes are those that the backup wrote"))
    return findings
