"""Evidence that a port is read at the wrong baud rate: the share of text in its bytes, and framing errors. Pure."""

from __future__ import annotations

from typing import NamedTuple

from wire.text import plural

LIKELY_RATES = (
    115_200, 9_600, 57_600, 38_400, 19_200, 4_800, 230_400, 460_800, 921_600, 250_000, 1_000_000, 2_400, 1_200, 74_880,
    500_000, 1_500_000, 2_000_000, 300,
)  # fmt: skip
"""Rates that are tried, the most common first. 74,880 is that of the boot messages of an ESP8266."""

MIN_BYTES = 64
"""Bytes that decide: a line or two. Bytes by chance are 38 % text, so 64 of them are never 70 % text."""

WINDOW_BYTES = 4096
"""Bytes after which the counts are halved: older ones say less about now."""

MIN_TEXT = 0.7
"""Least share of text that a device may send. A wrong rate gives 10 to 60 %."""

GOOD_TEXT = 0.95
"""Share of text at the right rate, with some bytes of the time before."""

MAX_ERROR_SHARE = 0.05
"""Most framing errors a byte: a good line has none."""

LINE_BYTES = 500
"""Bytes that have at least one readable line: noise can look like one now and then."""

_TEXT = bytes([*range(0x20, 0x7F), 9, 10, 13])
_ABOVE_ASCII = bytes(range(0x80, 0x100))
_EVEN = bytes(byte for byte in range(256) if byte.bit_count() % 2 == 0 and byte & 0x7F in _TEXT)
_ODD = bytes(byte for byte in range(256) if byte.bit_count() % 2 == 1 and byte & 0x7F in _TEXT)
_SEVEN_BITS = bytes(byte & 0x7F for byte in range(256))


class Evidence(NamedTuple):
    """Counts of bytes that were read. `even` and `odd` are text if the eighth bit is a parity of that kind."""

    total: int = 0
    text: int = 0
    even: int = 0
    odd: int = 0
    framing_errors: int = 0
    good_lines: int = 0

    @property
    def text_share(self) -> float:
        """The share of text, 1 without bytes."""
        return self.text / self.total if self.total else 1.0

    @property
    def frame(self) -> str:
        """The data bits, parity and stop bits that the bytes show: 7E1, 7O1, or empty for 8 data bits."""
        if self.total < MIN_BYTES or self.text_share >= GOOD_TEXT:
            return ""
        return next((f for f, count in (("7E1", self.even), ("7O1", self.odd)) if count >= GOOD_TEXT * self.total), "")

    def added(self, data: bytes, *, is_ascii_based: bool = True) -> Evidence:
        """Return the evidence with more bytes. Any byte above ASCII is text of an encoding that is not UTF-8."""
        return self._replace(
            total=self.total + len(data),
            text=self.text + text_bytes(data, any_above_ascii=not is_ascii_based),
            even=self.even + len(data) - len(data.translate(None, _EVEN)),
            odd=self.odd + len(data) - len(data.translate(None, _ODD)),
        )

    def halved(self) -> Evidence:
        """Return half of all counts."""
        return Evidence(*(count // 2 for count in self))


def text_bytes(data: bytes, *, any_above_ascii: bool = False) -> int:
    """Return how many bytes are text: printable ASCII, white space, and characters of UTF-8."""
    rest = data.translate(None, _TEXT)
    if not rest or any_above_ascii:
        return len(data) - len(rest.translate(None, _ABOVE_ASCII) if any_above_ascii else rest)
    others = [character for character in data.decode(errors="ignore") if character > "\x7f" and character.isprintable()]
    return len(data) - len(rest) + len("".join(others).encode())


def seven_bits(data: bytes) -> bytes:
    """Return the bytes without their eighth bit."""
    return data.translate(_SEVEN_BITS)


class BaudWatch:
    """Watch over the bytes of one connection."""

    def __init__(self, baud: int, encoding: str = "auto") -> None:
        self._baud = baud
        self._is_ascii_based = encoding in ("auto", "utf-8", "utf8", "ascii")
        self._errors_before = 0
        self.evidence = Evidence()

    def add(self, data: bytes, *, good_lines: int, framing_errors: int | None) -> None:
        """Count bytes, the readable lines in them, and the framing errors since the connection began."""
        if self.evidence.total >= WINDOW_BYTES:
            self.evidence = self.evidence.halved()
        evidence = self.evidence.added(data, is_ascii_based=self._is_ascii_based)
        errors = framing_errors or 0
        self.evidence = evidence._replace(
            good_lines=evidence.good_lines + good_lines,
            framing_errors=evidence.framing_errors + errors - self._errors_before,
        )
        self._errors_before = errors

    def problem(self, port: str) -> str:
        """Return why the lines cannot be read, with the next step; empty if the rate is not the cause."""
        found = self.evidence
        if found.total < MIN_BYTES or found.good_lines * LINE_BYTES > found.total:
            return ""
        if found.frame:
            return f"the device sends 7 data bits and a parity: set frame {found.frame} (`--frame {found.frame}`)"
        has_errors = found.framing_errors > MAX_ERROR_SHARE * found.total
        if found.text_share >= MIN_TEXT and not has_errors:
            return ""
        errors = f", {plural(found.framing_errors, 'framing error')}" if found.framing_errors else ""
        return (
            f"the baud rate {self._baud:,} is probably wrong, or the device sends no text: {found.text_share:.0%} of"
            f" {found.total:,} bytes are text{errors}. Find the rate: device-agent try {port} --find-baud"
        )


class RateTrial(NamedTuple):
    """Result of reading a port at one rate. `problem` says why the rate cannot be set."""

    baud: int
    evidence: Evidence = Evidence()
    lines: int = 0
    format: str = ""
    problem: str = ""

    @property
    def is_decided(self) -> bool:
        """Return whether more bytes would change nothing."""
        found = self.evidence
        is_noise = found.total >= MIN_BYTES and found.text_share < MIN_TEXT and not found.frame
        return is_noise or (self.lines >= 3 and self.reads) or found.total >= WINDOW_BYTES

    @property
    def reads(self) -> bool:
        """Return whether the bytes are lines of text."""
        found = self.evidence
        is_text = found.text_share >= GOOD_TEXT or bool(found.frame)
        return is_text and self.lines > 0 and found.framing_errors <= MAX_ERROR_SHARE * found.total


def best_trial(trials: list[RateTrial]) -> RateTrial | None:
    """Return the rate that reads: one whose format is known, then the one with the most text."""
    reading = [trial for trial in trials if trial.reads]
    return max(reading, key=lambda trial: (bool(trial.format), trial.evidence.text_share), default=None)
