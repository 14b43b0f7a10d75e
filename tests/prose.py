"""Check that the words of the repository are plain technical English: `python -m tests.prose [PATH...]`.

The check reads Python docstrings, comments, log events, error messages and help texts; Markdown documents; TypeScript
comments, sentences and page text; and the comments of configuration files. It rejects the words of `BANNED` and texts
that begin with a word of `FRAGMENTS`. Code in backticks, quoted words and identifiers do not count: a protocol may need
any word.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SKIPPED_FOLDERS = {"node_modules", "build", "dist", "data", "static", "__pycache__"}

BANNED = {
    r"whoever": "the caller, the client, anyone who",
    r"whose own": "with its own",
    r"tells?|told|telling": "report, return, show, state, distinguish",
    r"(?:goes|go|going|went|gone) on(?! (?:a|an|the|each|every|one|disk)\b)": "continue, resume",
    r"(?:comes?|came|coming) again": "is sent again, is repeated, returns",
    r"stretch(?:es)?": "range, interval",
    r"judg(?:es?|ed|ing)": "validate, check, decide",
    r"not to be had": "not available, cannot be read",
    r"nobody shall": "no client may",
    r"of its own accord": "automatically",
    r"as good as": "almost",
    r"has in it": "contains",
}
"""Pattern of a banned word: the plain words that replace it. The lookahead lets data go on a page or on disk."""

FRAGMENTS = {
    "Of": "begin with the subject",
    "What": "name the thing, or use a verb: Return, Describe, List",
    "Whoever": "name the caller or the client",
    "Where": "use If, or name the place",
    "So that": "begin with the verb, and give the purpose after it",
    "Whether": "use Return whether",
    "Those": "name the elements",
    "How": "use Return or Describe",
    "Which": "use Return or Select, and name the elements",
}
"""Opening of a text that makes it a fragment: the opening to write instead."""

LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
TEXT_ARGUMENTS = {"help", "description", "detail", "message", "summary"}

# An identifier or a part of one is no word: `.tell(`, `judge_batch`, `tell=`.
WORDS = {
    re.compile(rf"(?<![\w./-])(?:{pattern})(?![\w(=/-])", re.IGNORECASE): plain for pattern, plain in BANNED.items()
}
OPENING = re.compile(rf"\s*(?:[-*] )?({'|'.join(sorted(FRAGMENTS, key=len, reverse=True))})\b")
QUOTED = re.compile(r"``.+?``|`[^`]*`|\"\w+\"|'\w+'|https?://\S+", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HASH_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
PAGE_TEXT = re.compile(r">([^<>{}]+)<")
TYPESCRIPT = re.compile(
    r"(?P<comment>/\*.*?\*/|//[^\n]*)"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
    r"|(?<=[(,=:\[!&|?{};])\s*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/",
    re.DOTALL,
)


class Text(NamedTuple):
    """Text for people: the line at which it begins, its content, and whether its opening is checked."""

    line: int
    content: str
    opens: bool = False


class Finding(NamedTuple):
    """A word to replace, and the place where it stands."""

    line: int
    word: str
    plain: str


def is_log_event(node: ast.AST) -> bool:
    """Return whether a call writes a log line: a log method of a name such as `log` or `self._logger`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS):
        return False
    return "log" in ast.unparse(node.func.value).lower()


def strings_within(node: ast.AST) -> Iterator[Text]:
    """Yield every string of an expression; of an f-string its literal parts."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield Text(inner.lineno, inner.value)


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings, comments, log events, error messages and help texts of a Python module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(token.start[0], token.string)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as docstring)):
                yield Text(node.lineno, docstring, opens=True)
            case ast.Raise(exc=ast.Call() as call):
                yield from strings_within(call)
            case ast.Call() if is_log_event(node):
                yield from strings_within(node)
            case ast.keyword(arg=str() as name, value=value) if name in TEXT_ARGUMENTS:
                yield from strings_within(value)


def markdown_texts(source: str) -> Iterator[Text]:
    """Yield the paragraphs of a Markdown document without its code blocks. Headings and questions may open freely."""
    prose = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), source)
    for paragraph in re.finditer(r"(?:^[^\n]*\S[^\n]*\n?)+", prose, re.MULTILINE):
        content = paragraph[0]
        is_free = content.startswith(("#", "|")) or content.rstrip().endswith("?")
        yield Text(prose.count("\n", 0, paragraph.start()) + 1, content, opens=not is_free)


def typescript_texts(source: str) -> Iterator[Text]:
    """Yield the comments, the strings of several words and the JSX text of a TypeScript module.

    The opening of a `/**` comment is checked like a docstring's.
    """
    for token in TYPESCRIPT.finditer(source):
        if comment := token["comment"]:
            opens = comment.startswith("/**")
            content = comment.removeprefix("/**") if opens else comment
            yield Text(source.count("\n", 0, token.start()) + 1, content.replace("\n *", "\n  "), opens)
        elif " " in token[0]:
            yield Text(source.count("\n", 0, token.start()) + 1, token[0][1:-1])
    for text in PAGE_TEXT.finditer(TYPESCRIPT.sub("", source)):
        yield Text(source.count("\n", 0, source.find(text[1])) + 1, text[1])


def configuration_texts(source: str) -> Iterator[Text]:
    """Yield the comments of a file whose comments begin with `#`."""
    for comment in HASH_COMMENT.finditer(source):
        yield Text(source.count("\n", 0, comment.start()) + 1, comment[0])


READERS = {
    ".py": python_texts,
    ".md": markdown_texts,
    ".ts": typescript_texts,
    ".tsx": typescript_texts,
    **dict.fromkeys((".toml", ".yml", ".conf", ".service", "Makefile", "Dockerfile", ".example"), configuration_texts),
}
"""Reader of each kind of file, by its suffix or, without one, its name."""


def check(source: str, kind: str) -> list[Finding]:
    """Return the findings in one file's source, in the order of their lines."""
    findings: set[Finding] = set()
    for text in READERS[kind](source):
        prose = QUOTED.sub(lambda quoted: "\n" * quoted[0].count("\n") + "§", text.content)
        if text.opens and (opening := OPENING.match(prose)):
            findings.add(Finding(text.line, opening[1], FRAGMENTS[opening[1]]))
        for pattern, plain in WORDS.items():
            for word in pattern.finditer(prose):
                findings.add(Finding(text.line + prose.count("\n", 0, word.start()), word[0], plain))
    return sorted(findings)


def files_under(path: Path) -> list[Path]:
    """Return the files to check: the path itself, or everything below a folder that is not made by a tool."""
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and (file.suffix or file.name) in READERS
        and not any(part in SKIPPED_FOLDERS or part.startswith(".") for part in file.relative_to(path).parts)
    )


def main(paths: list[Path]) -> int:
    """Print every finding below these paths, or below the working directory; return 1 if there is one."""
    count = 0
    for file in [file for path in paths or [Path()] for file in files_under(path)]:
        for finding in check(file.read_text(encoding="utf-8"), file.suffix or file.name):
            count += 1
            print(f"{file}:{finding.line}: '{finding.word}': write instead: {finding.plain}")
    if count:
        print(f"{count} words or openings are not plain English", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
