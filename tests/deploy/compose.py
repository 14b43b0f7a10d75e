"""Readers of docker-compose.yml and the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?:(:?[-?])([^}]*))?\}")
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?")

Model = dict[str, Any]


class ComposeError(Exception):
    """The file is invalid; the message comes from the Compose program."""


def read_compose(program: Path, folder: Path, environment: Mapping[str, str] | None = None) -> Model:
    """Return the file as Compose reads it from `folder`. Raise ComposeError."""
    asked = subprocess.run(
        [program, FILE],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise ComposeError(asked.stderr.strip())
    model: Model = json.loads(asked.stdout)
    return model


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: its keyword and the rest, with continued lines joined."""

    word: str
    rest: str


def read_dockerfile(text: str) -> list[list[Instruction]]:
    """Return the instructions of each stage (Dockerfile reference: continuation lines, comments between them)."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word.upper(), " ".join(rest.split())))
    return stages
