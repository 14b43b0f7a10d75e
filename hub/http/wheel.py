"""The hub's own wheel, made again from the installed files, so that a device can install the agent from its hub.

A wheel is a zip archive of the files that an installation keeps (the binary distribution format of the Python packaging
specifications), so its content can be collected again. The agent of a device then has the version of its hub, and no
name has to be looked up in a package index, where somebody else could have registered it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import stat
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

INSTALLER_FILES = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
"""Files of the metadata that the installer writes. They are no part of a wheel."""

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive, so that the same files give the same bytes and the same hash."""

FILE_MODE = stat.S_IFREG | 0o644


class WheelError(Exception):
    """An installation from which no wheel can be made. The message says what is wrong with it."""


class Wheel(NamedTuple):
    """A wheel: the name of its file, its content, the SHA-256 of that in hexadecimal, and the Python that it needs."""

    file: str
    content: bytes
    sha256: str
    requires_python: str


def make_wheel(distribution: Distribution) -> Wheel:
    """Return the wheel of an installed distribution. The same files give the same bytes.

    Reads the files of the installation, or of the source tree if the installation is editable. Raises WheelError.
    """
    try:
        metadata = {path: content for path, content in _recorded_files(distribution) if _is_metadata(path)}
        tree = _editable_tree(distribution)
        if tree is None:
            code = {path: content for path, content in _recorded_files(distribution) if path not in metadata}
        else:
            code = dict(_source_files(tree))
    except OSError as error:
        raise WheelError(f"{error.filename} cannot be read: {error.strerror}") from error
    folders = {path.partition("/")[0] for path in metadata}
    if len(folders) != 1 or f"{min(folders)}/WHEEL" not in metadata:
        raise WheelError("the installation has no metadata of a wheel")
    folder = min(folders)
    name = f"{folder.removesuffix('.dist-info')}-{_tag(metadata[f'{folder}/WHEEL'].decode())}.whl"
    content = _archive(dict(sorted(code.items())) | dict(sorted(metadata.items())), f"{folder}/RECORD")
    return Wheel(name, content, hashlib.sha256(content).hexdigest(), distribution.metadata["Requires-Python"] or "")


def _recorded_files(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the installation that belong into a wheel. Raises WheelError and OSError."""
    if distribution.files is None:
        raise WheelError("the installation has no list of its files (RECORD)")
    for file in distribution.files:
        path = file.as_posix()
        # Commands are outside the folder of the packages: pip makes them from the entry points.
        if path.startswith(("..", "/")) or file.suffix in (".pyc", ".pth"):
            continue
        if _is_metadata(path) and file.name in INSTALLER_FILES:
            continue
        yield path, Path(str(file.locate())).read_bytes()


def _tag(wheel: str) -> str:
    """Return the tag of the file's name, `py2.py3-none-any`, from the single tags in the file WHEEL."""
    tags = [line.removeprefix("Tag: ").split("-") for line in wheel.splitlines() if line.startswith("Tag: ")]
    return "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*tags, strict=True))


def _is_metadata(path: str) -> bool:
    return path.partition("/")[0].endswith(".dist-info")


def _editable_tree(distribution: Distribution) -> Path | None:
    """Return the source tree of an editable installation; None for any other."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))


def _source_files(tree: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the packages in a source tree: those that the build puts into a wheel."""
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        for path in (tree / package).rglob("*"):
            place = path.relative_to(tree)
            if path.suffix != ".pyc" and path.is_file() and not any(part.startswith(".") for part in place.parts):
                yield place.as_posix(), path.read_bytes()


def _archive(files: Mapping[str, bytes], record: str) -> bytes:
    """Return the zip archive of these files and of their list at `record`."""
    listing = io.StringIO()
    rows = csv.writer(listing, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.writerow((path, f"sha256={digest}", len(content)))
    rows.writerow((record, "", ""))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in {**files, record: listing.getvalue().encode()}.items():
            entry = zipfile.ZipInfo(path, ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = FILE_MODE << 16
            wheel.writestr(entry, content)
    return archive.getvalue()
