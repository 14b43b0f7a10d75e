"""Topic templates: MQTT's topic filters whose wildcards may have names. Pure. Follows MQTT 5.0, section 4.7.

A template is levels between "/". A level is a plain text, "+", or has one place in braces, with or without text around
it: "sensors/{site}/{device}/{metric}", "shelly-{device}/status". The last one may be "#" or "{name#}", which takes all
levels that follow. A named place takes no empty level. "$share/<group>/" in front is what subscribers divide their
messages by; it is no part of any topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAX_TOPIC_BYTES = 65_535
"""MQTT has two bytes for the length of a topic."""

SHARED = "$share/"

SPARKPLUG = "spBv1.0"
"""The first level of every Sparkplug B topic."""

PLACE = re.compile(r"\{([^{}]+)\}")
"""A name in a template of a device or a metric."""

_PLACE = re.compile(r"(?P<before>[^{}]*)\{(?P<name>[a-z_][a-z0-9_]*)(?P<rest>#)?\}(?P<after>[^{}]*)", re.IGNORECASE)
_RESERVED = re.compile("[%/+#$\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe-\U0010ffff]")
"""What is escaped in values: MQTT's own characters, "$", which hides a topic from wildcards, "%", which begins an
escape, and what brokers refuse in a topic. The last range is looked at more closely."""
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")


class TopicLevel(NamedTuple):
    """One level of a template: a plain text where `wild` is not set; else anything between `before` and `after`.

    `name` is empty for "+" and "#". `rest`: all levels that follow, too.
    """

    before: str
    after: str = ""
    wild: bool = False
    name: str = ""
    rest: bool = False


class TopicTemplate:
    """A topic filter with names. `filter` is what a broker is asked for, `names` are those of the places, in order.

    The filter may take more than the template does: text around a place and empty levels are not known to MQTT.
    """

    def __init__(self, text: str, share: str, levels: Sequence[TopicLevel]) -> None:
        """Use `parse`."""
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
        """The template that a text describes. Raises ValueError with a sentence."""
        share, topic = _share(text)
        if not topic:
            raise ValueError(f"the topic {text!r} is empty")
        if "\0" in topic or len(topic.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
            raise ValueError(f"a topic has at most {MAX_TOPIC_BYTES} bytes, and NUL is none of them")
        parts = topic.split("/")
        levels = [_level(part, text) for part in parts]
        if any(level.rest for level in levels[:-1]):
            raise ValueError(f"in the topic {text!r} levels follow on '#', which takes all of them")
        if levels[0].wild and levels[0].before.startswith("$"):
            raise ValueError(f"the topic {text!r} begins with '$': MQTT's wildcards take no such topic")
        names = [level.name for level in levels if level.name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"in the topic {text!r} the name {name!r} stands twice")
        return cls(text, share, levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """The values of the names in a topic; None where the template does not take it.

        What `fill` escaped is as it was.
        """
        found = self._fullmatch(topic)
        if found is None:
            return None
        values = found.groups()
        if "%" in topic:
            values = tuple(map(unescape, values))
        return dict(zip(self.names, values, strict=True))

    def fill(self, values: Mapping[str, str]) -> str:
        """The topic with these values, which `match` gives back.

        Raises ValueError where a value is missing or empty, where the template has a place without a name, and where
        the topic would be too long.
        """
        parts = []
        for level in self.levels:
            if not level.wild:
                parts.append(level.before)
                continue
            if not level.name:
                raise ValueError(f"nothing can be filled in for '+' and '#' in {self.text!r}: name them")
            value = values.get(level.name)
            if not value:
                raise ValueError(f"there is no value for {level.name!r} in {self.text!r}")
            inner = "/".join(map(escape, value.split("/"))) if level.rest else escape(value)
            parts.append(level.before + inner + level.after)
        topic = "/".join(parts)
        if len(topic.encode()) > MAX_TOPIC_BYTES:
            raise ValueError(f"a topic has at most {MAX_TOPIC_BYTES} bytes; {self.text!r} was filled with more")
        return topic


def places_of(template: str) -> frozenset[str]:
    """Return the names in a template of a device or a metric. Raises ValueError for a brace without a name."""
    rest = PLACE.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"in {template!r} a brace stands alone")
    return frozenset(PLACE.findall(template))


def sparkplug_group(filter: str) -> str:
    """Return the group whose messages a Sparkplug filter matches, "" for all groups.

    Raises ValueError for a filter that matches only part of a group: without its births the rest has no meaning.
    """
    namespace, _, rest = filter.partition("/")
    group, _, others = rest.rpartition("/")
    if namespace != SPARKPLUG or others != "#" or any(character in group for character in "/+#{}"):
        raise ValueError(
            f"the topic {filter!r} does not belong to Sparkplug: write {SPARKPLUG}/# or {SPARKPLUG}/GROUP/#"
        )
    return group


def shared(filter: str, group: str) -> str:
    """The filter as a member of a group asks for it; as it is without a group.

    Raises ValueError for what is no group's name.
    """
    if not group:
        return filter
    _check_group(group)
    return f"{SHARED}{group}/{filter}"


def unshared(filter: str) -> str:
    """The filter as who is in no group asks for it: in a group he would get messages instead of another member."""
    group, plain = _share(filter)
    return plain if group else filter


def overlap(one: TopicTemplate | str, other: TopicTemplate | str) -> str | None:
    """A topic that both take; None where there is none.

    Of what is subscribed to give the filter, since the broker sends all that it takes.
    """
    first = TopicTemplate.parse(one) if isinstance(one, str) else one
    second = TopicTemplate.parse(other) if isinstance(other, str) else other
    levels = _common(first.levels, second.levels)
    return "/".join(levels) if levels is not None else None


def escape(value: str) -> str:
    """A value as one level of a topic has it: reserved characters as "%" and two digits for each of their bytes."""
    return _RESERVED.sub(_as_digits, value)


def unescape(text: str) -> str:
    """The value that was escaped. Other texts with "%" in them stay as they are."""
    return _ESCAPED.sub(_as_text, text)


def _as_digits(found: re.Match[str]) -> str:
    character = found[0]
    if character > "\uffff" and ord(character) & 0xFFFE != 0xFFFE:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _as_text(found: re.Match[str]) -> str:
    digits = found[0]
    try:
        text = bytes.fromhex(digits.replace("%", "")).decode()
    except UnicodeDecodeError:
        return digits
    return text if escape(text) == digits else digits


def _share(text: str) -> tuple[str, str]:
    """The group of a shared subscription, empty for none, and the topic behind it."""
    if not text.startswith(SHARED):
        return "", text
    group, _, topic = text.removeprefix(SHARED).partition("/")
    _check_group(group)
    return group, topic


def _check_group(group: str) -> None:
    if not group or any(character in group for character in "/+#\0"):
        raise ValueError(
            f"{group!r} is no name of a group of subscribers: it may not be empty nor have '/', '+' or '#'"
        )


def _level(part: str, text: str) -> TopicLevel:
    if part in ("+", "#"):
        return TopicLevel("", wild=True, rest=part == "#")
    place = _PLACE.fullmatch(part)
    if place is None:
        if "{" in part or "}" in part:
            raise ValueError(
                f"the level {part!r} of the topic {text!r} is no template: it may have one place, such as {{device}}"
            )
        before, after = part, ""
    else:
        before, after = place["before"], place["after"]
    if any(wildcard in before + after for wildcard in "+#"):
        raise ValueError(f"in the topic {text!r} '+' or '#' is only a part of the level {part!r}")
    if place is None:
        return TopicLevel(before)
    if place["rest"] and before + after:
        raise ValueError(f"in the topic {text!r} the place {{{place['name']}#}} has to stand alone between '/'")
    return TopicLevel(before, after, wild=True, name=place["name"], rest=bool(place["rest"]))


def _pattern(levels: Sequence[TopicLevel]) -> re.Pattern[str]:
    """The topics that the levels take, a group for each name."""
    parts = []
    for place, level in enumerate(levels):
        slash = "/" if place else ""
        if not level.wild:
            parts.append(slash + re.escape(level.before))
            continue
        # Topics that begin with "$" are the broker's own: a wildcard never takes them.
        guard = "" if place else r"(?!\$)"
        if not level.rest:
            inner = "([^/]+)" if level.name else "[^/]*"
            parts.append(slash + guard + re.escape(level.before) + inner + re.escape(level.after))
        elif level.name:
            parts.append(f"{slash}{guard}(.+)")
        else:
            # "a/#" takes "a", too.
            parts.append("(?:/.*)?" if place else f"{guard}.+")
    return re.compile("".join(parts), re.DOTALL)


_FILLER = "x"
"""What stands in an example topic where anything may."""


def _common(one: Sequence[TopicLevel], other: Sequence[TopicLevel]) -> list[str] | None:
    """The levels of a topic that both take."""
    found: list[str] = []
    for place in range(max(len(one), len(other)) + 1):
        ours, theirs = one[place : place + 1], other[place : place + 1]
        if ours and ours[0].rest:
            return _with_rest(found, ours[0], other[place:])
        if theirs and theirs[0].rest:
            return _with_rest(found, theirs[0], one[place:])
        if not ours and not theirs:
            return found
        if not ours or not theirs:
            return None
        level = _common_level(ours[0], theirs[0])
        if level is None or (not place and level.startswith("$") and (ours[0].wild or theirs[0].wild)):
            return None
        found.append(level)
    return found


def _with_rest(found: list[str], rest: TopicLevel, following: Sequence[TopicLevel]) -> list[str] | None:
    """The topic that begins with `found`, which one side ends with all that follows, the other with these levels."""
    levels = [level.before + _FILLER + level.after if level.wild else level.before for level in following]
    if not found and levels and levels[0].startswith("$"):
        return None
    if rest.name and not "/".join(levels):
        # A named place takes at least something; only the other's own rest could give it that.
        return None
    return found + levels


def _common_level(one: TopicLevel, other: TopicLevel) -> str | None:
    """A text that both of two levels, neither of them a rest, take."""
    if not one.wild and not other.wild:
        return one.before if one.before == other.before else None
    if not one.wild or not other.wild:
        plain, wild = (other.before, one) if one.wild else (one.before, other)
        least = len(wild.before) + len(wild.after) + (1 if wild.name else 0)
        fits = plain.startswith(wild.before) and plain.endswith(wild.after) and len(plain) >= least
        return plain if fits else None
    before = max(one.before, other.before, key=len)
    after = max(one.after, other.after, key=len)
    if not all(before.startswith(level.before) and after.endswith(level.after) for level in (one, other)):
        return None
    return before + _FILLER + after
