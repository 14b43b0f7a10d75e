"""Topic templates: MQTT topic filters whose wildcards may have names. Pure. Follows MQTT 5.0, section 4.7.

A template consists of levels separated by "/". A level is plain text, "+", or one placeholder in braces with optional
text around it: "sensors/{site}/{device}/{metric}", "shelly-{device}/status". The last level may be "#" or "{name#}",
which matches all remaining levels. A named placeholder does not match an empty level. "$share/<group>/" in front makes
a shared subscription; it is not part of a topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

MAX_TOPIC_BYTES = 65_535
"""MQTT stores the length of a topic in two bytes."""

SHARED = "$share/"

SPARKPLUG = "spBv1.0"
"""First level of all Sparkplug topics."""

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_LEVEL = re.compile(r"(?P<before>[^{}]*)\{(?P<name>[a-z_][a-z0-9_]*)(?P<rest>#)?\}(?P<after>[^{}]*)", re.IGNORECASE)
_RESERVED = re.compile("[%/+#$\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe-\U0010ffff]")
"""Characters that are escaped in values: those with a meaning in MQTT, "$", which hides a topic from wildcards, "%",
which begins an escape, and those that brokers refuse in a topic. `_percent_encode` checks the last range further."""
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")


class TopicLevel(NamedTuple):
    """One level of a template: plain text, or with `wild` any text between `before` and `after`.

    `name` is empty for "+" and "#". With `rest` the level matches all remaining levels.
    """

    before: str
    after: str = ""
    wild: bool = False
    name: str = ""
    rest: bool = False


class TopicTemplate:
    """Topic filter with named wildcards. `filter` is the plain MQTT filter, `names` are the placeholders in order.

    The filter may match more topics than the template: MQTT has no text around a wildcard and allows empty levels.
    """

    def __init__(self, text: str, share: str, levels: Sequence[TopicLevel]) -> None:
        """Use `parse` instead."""
        self.text = text
        self.share = share
        self.levels = tuple(levels)
        self.names = tuple(level.name for level in levels if level.name)
        plain = "/".join(("#" if level.rest else "+") if level.wild else level.before for level in levels)
        self.filter = f"{SHARED}{share}/{plain}" if share else plain
        self._fullmatch = _pattern(levels).fullmatch

    def __repr__(self) -> str:
        return f"TopicTemplate({self.text!r})"

    @classmethod
    def parse(cls, text: str) -> TopicTemplate:
        """Parse a template. Raises ValueError with a sentence."""
        share, topic = _share(text)
        if not topic:
            raise ValueError(f"the topic {text!r} is empty")
        if "\0" in topic or len(topic.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
            raise ValueError(f"a topic has at most {MAX_TOPIC_BYTES} bytes and no NUL character")
        parts = topic.split("/")
        levels = [_level(part, text) for part in parts]
        if any(level.rest for level in levels[:-1]):
            raise ValueError(f"the topic {text!r} has levels after '#'; '#' must be the last level")
        if levels[0].wild and levels[0].before.startswith("$"):
            raise ValueError(f"the topic {text!r} begins with '$', which no wildcard of MQTT matches")
        names = [level.name for level in levels if level.name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the topic {text!r} contains the name {name!r} twice")
        return cls(text, share, levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the values of the placeholders, unescaped, or None if the topic does not match."""
        found = self._fullmatch(topic)
        if found is None:
            return None
        values = found.groups()
        if "%" in topic:
            values = tuple(map(unescape, values))
        return dict(zip(self.names, values, strict=True))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the topic with these values, from which `match` returns the same values.

        Raises ValueError for a missing or empty value, a wildcard without a name, and a topic that is too long.
        """
        parts = []
        for level in self.levels:
            if not level.wild:
                parts.append(level.before)
                continue
            if not level.name:
                raise ValueError(f"{self.text!r} has '+' or '#', which cannot be filled in; use a named placeholder")
            value = values.get(level.name)
            if not value:
                raise ValueError(f"{level.name!r} in {self.text!r} has no value")
            inner = "/".join(map(escape, value.split("/"))) if level.rest else escape(value)
            parts.append(level.before + inner + level.after)
        topic = "/".join(parts)
        if len(topic.encode()) > MAX_TOPIC_BYTES:
            raise ValueError(f"a topic has at most {MAX_TOPIC_BYTES} bytes; the values for {self.text!r} need more")
        return topic


def placeholders(template: str) -> frozenset[str]:
    """Return the names in the template of a device or a metric. Raises ValueError for a single brace."""
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{template!r} contains a brace without its partner")
    return frozenset(_PLACEHOLDER.findall(template))


def fill_placeholders(template: str, values: Mapping[str, str]) -> str:
    """Return the template of a device or a metric with these values. Raises KeyError for a name without a value."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def sparkplug_group(topic: str) -> str:
    """Return the Sparkplug group of a topic filter, "" for all groups.

    Raises ValueError for a filter that matches only a part of a group: without its births the rest is not readable.
    """
    namespace, _, rest = topic.partition("/")
    group, _, others = rest.rpartition("/")
    if namespace != SPARKPLUG or others != "#" or any(character in group for character in "/+#{}"):
        raise ValueError(f"the topic {topic!r} does not belong to Sparkplug; use {SPARKPLUG}/# or {SPARKPLUG}/GROUP/#")
    return group


def shared(filter: str, group: str) -> str:
    """Return the filter as a shared subscription of a group, unchanged for no group.

    Raises ValueError for an invalid group name.
    """
    if not group:
        return filter
    _check_group(group)
    return f"{SHARED}{group}/{filter}"


def unshared(filter: str) -> str:
    """Return the filter without its group. A member of the group would receive messages instead of another member."""
    group, plain = _share(filter)
    return plain if group else filter


def overlap(first: TopicTemplate | str, second: TopicTemplate | str) -> str | None:
    """Return a topic that both templates match, or None.

    For a subscription pass the filter: the broker sends everything that the filter matches.
    """
    first = TopicTemplate.parse(first) if isinstance(first, str) else first
    second = TopicTemplate.parse(second) if isinstance(second, str) else second
    levels = _common(first.levels, second.levels)
    if levels is None or (levels[0].startswith("$") and (first.levels[0].wild or second.levels[0].wild)):
        return None
    return "/".join(levels)


def escape(value: str) -> str:
    """Encode a value as one level of a topic: each byte of a reserved character becomes "%" and two digits."""
    return _RESERVED.sub(_percent_encode, value)


def unescape(text: str) -> str:
    """Decode the result of `escape`. Other texts that contain "%" are returned unchanged."""
    return _ESCAPED.sub(_percent_decode, text)


def _percent_encode(found: re.Match[str]) -> str:
    character = found[0]
    if character > "\uffff" and ord(character) & 0xFFFE != 0xFFFE:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _percent_decode(found: re.Match[str]) -> str:
    digits = found[0]
    try:
        text = bytes.fromhex(digits.replace("%", "")).decode()
    except UnicodeDecodeError:
        return digits
    return text if escape(text) == digits else digits


def _share(text: str) -> tuple[str, str]:
    """Return the group of a shared subscription, "" for none, and the topic after it."""
    if not text.startswith(SHARED):
        return "", text
    group, _, topic = text.removeprefix(SHARED).partition("/")
    _check_group(group)
    return group, topic


def _check_group(group: str) -> None:
    if not group or any(character in group for character in "/+#\0"):
        raise ValueError(f"{group!r} is not a valid group name: it must not be empty or contain '/', '+' or '#'")


def _level(part: str, text: str) -> TopicLevel:
    if part in ("+", "#"):
        return TopicLevel("", wild=True, rest=part == "#")
    found = _LEVEL.fullmatch(part)
    if found is None:
        if "{" in part or "}" in part:
            raise ValueError(f"the level {part!r} of the topic {text!r} is invalid: it may contain one placeholder")
        before, after = part, ""
    else:
        before, after = found["before"], found["after"]
    if any(wildcard in before + after for wildcard in "+#"):
        raise ValueError(f"in the topic {text!r} '+' or '#' is only a part of the level {part!r}")
    if found is None:
        return TopicLevel(before)
    if found["rest"] and before + after:
        raise ValueError(f"in the topic {text!r} the placeholder {{{found['name']}#}} must be a whole level")
    return TopicLevel(before, after, wild=True, name=found["name"], rest=bool(found["rest"]))


def _pattern(levels: Sequence[TopicLevel]) -> re.Pattern[str]:
    """Return the pattern of the matching topics, with a group for each name."""
    parts = []
    for index, level in enumerate(levels):
        slash = "/" if index else ""
        if not level.wild:
            parts.append(slash + re.escape(level.before))
            continue
        # Topics that begin with "$" belong to the broker: no wildcard matches them.
        guard = "" if index else r"(?!\$)"
        if not level.rest:
            inner = "([^/]+)" if level.name else "[^/]*"
            parts.append(slash + guard + re.escape(level.before) + inner + re.escape(level.after))
        elif level.name:
            parts.append(f"{slash}{guard}(.+)")
        else:
            # "a/#" also matches "a".
            parts.append("(?:/.*)?" if index else f"{guard}.+")
    return re.compile("".join(parts), re.DOTALL)


_FILLER = "x"
"""Text of an example topic where any text matches."""


def _common(first: Sequence[TopicLevel], second: Sequence[TopicLevel]) -> list[str] | None:
    """Return the levels of a topic that both match, or None."""
    found: list[str] = []
    for index, (left, right) in enumerate(zip_longest(first, second)):
        for level, others in ((left, second[index:]), (right, first[index:])):
            if level is not None and level.rest:
                following = [other.before + (_FILLER if other.wild else "") + other.after for other in others]
                # A named placeholder needs at least one character.
                return None if level.name and not "/".join(following) else found + following
        text = _common_level(left, right) if left is not None and right is not None else None
        if text is None:
            return None
        found.append(text)
    return found


def _common_level(first: TopicLevel, second: TopicLevel) -> str | None:
    """Return a text that both levels match. Neither level is a `rest`."""
    if not first.wild and not second.wild:
        return first.before if first.before == second.before else None
    if not first.wild or not second.wild:
        plain, wild = (second.before, first) if first.wild else (first.before, second)
        min_length = len(wild.before) + len(wild.after) + (1 if wild.name else 0)
        fits = plain.startswith(wild.before) and plain.endswith(wild.after) and len(plain) >= min_length
        return plain if fits else None
    before = max(first.before, second.before, key=len)
    after = max(first.after, second.after, key=len)
    if not all(before.startswith(level.before) and after.endswith(level.after) for level in (first, second)):
        return None
    return before + _FILLER + after
