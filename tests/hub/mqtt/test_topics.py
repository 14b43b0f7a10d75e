"""Topic templates: matching, filling, and common topics of two templates."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.mqtt.topics import MAX_TOPIC_BYTES, TopicTemplate, overlap, shared

PIECES = ["a", "$a", "", "+", "{n}", "a{n}", "{n}b", "a{n}b"]
"""Levels of the templates that are compared with a search over topics."""
TOPIC_LEVELS = ["", "a", "b", "ab", "axb", "$a"]
TOPICS = ["/".join(levels) for count in (1, 2, 3, 4) for levels in product(TOPIC_LEVELS, repeat=count)]


@st.composite
def templates(draw: st.DrawFn) -> TopicTemplate:
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=3))
    pieces += draw(st.sampled_from([[], [], ["#"], ["{rest#}"]]))
    named = [piece.replace("{n}", f"{{n{place}}}") for place, piece in enumerate(pieces)]
    text = "/".join(named)
    return TopicTemplate.parse(text or "a")


def values(template: TopicTemplate) -> st.SearchStrategy[dict[str, str]]:
    texts = st.text(min_size=1, max_size=12) | st.sampled_from(
        ["a/b", "+", "#", "$SYS", "100%", "%2F", "\0", "%%25", "/"]
    )
    return st.fixed_dictionaries(dict.fromkeys(template.names, texts))


@pytest.mark.parametrize(
    ("template", "filter", "topic", "found"),
    [
        (
            "sensors/{site}/{device}/{metric}",
            "sensors/+/+/+",
            "sensors/a/b/c",
            {"site": "a", "device": "b", "metric": "c"},
        ),
        ("sensors/{device}", "sensors/+", "sensors/a/b", None),
        ("sensors/{device}", "sensors/+", "sensors/", None),
        ("sensors/+/{device}", "sensors/+/+", "sensors//b", {"device": "b"}),
        ("a/#", "a/#", "a", {}),
        ("a/#", "a/#", "a/b/c", {}),
        ("a/{all#}", "a/#", "a/b/c", {"all": "b/c"}),
        ("a/{all#}", "a/#", "a", None),
        ("shelly-{device}/status", "+/status", "shelly-4/status", {"device": "4"}),
        ("shelly-{device}/status", "+/status", "other/status", None),
        ("#", "#", "$SYS/uptime", None),
        ("+/uptime", "+/uptime", "$SYS/uptime", None),
        ("$SYS/{metric}", "$SYS/+", "$SYS/uptime", {"metric": "uptime"}),
        ("$share/hub/a/{device}", "$share/hub/a/+", "a/b", {"device": "b"}),
        ("{device}/a.b", "+/a.b", "x/aXb", None),
        ("{device}", "+", "line\nbreak", {"device": "line\nbreak"}),
    ],
)
def test_a_template_matches_like_mqtt(template: str, filter: str, topic: str, found: dict[str, str] | None) -> None:
    """Wildcards follow the standard; placeholders extend them."""
    parsed = TopicTemplate.parse(template)
    assert parsed.filter == filter
    assert parsed.match(topic) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("$share/hub/", "empty"),
        ("$share//a", "group"),
        ("$share/a+b/c", "group"),
        ("a/#/b", "after"),
        ("a/{all#}/b", "after"),
        ("a+/b", "only a part"),
        ("a{n#}", "a whole level"),
        ("{a}{b}", "one placeholder"),
        ("{a", "one placeholder"),
        ("{a b}", "one placeholder"),
        ("{a}/{a}", "twice"),
        ("$x{a}/b", "begins with '$'"),
        ("a\0b", "NUL"),
        ("a" * (MAX_TOPIC_BYTES + 1), "at most"),
    ],
)
def test_an_invalid_template_is_explained(text: str, why: str) -> None:
    """The sentence shows the mistake in the settings."""
    with pytest.raises(ValueError, match=re.escape(why)):
        TopicTemplate.parse(text)


@given(st.data(), templates())
def test_a_filled_template_matches_its_values(data: st.DataObject, template: TopicTemplate) -> None:
    """The values are returned unchanged, and none of them changes the structure of the topic."""
    filled = data.draw(values(template))
    if any(level.wild and not level.name for level in template.levels):
        with pytest.raises(ValueError, match="use a named placeholder"):
            template.fill(filled)
        return
    topic = template.fill(filled)
    assert template.match(topic) == filled
    assert not set(topic) & {"+", "#", "\0"}
    if not any(level.rest for level in template.levels):
        assert topic.count("/") == len(template.levels) - 1


@pytest.mark.parametrize(
    "value", ["$SYS", "a/b", "/", "+", "#", "100%", "%2F", "\0", "\x7f", "\ufffe", "\U0001ffff", "é"]
)
@pytest.mark.parametrize("text", ["{a}", "{a}/x", "x/{a}", "x{a}y/z", "{a#}", "x/{a#}"])
def test_a_value_with_special_characters_matches(text: str, value: str) -> None:
    """This holds at every position: a topic that begins with "$" would be hidden from wildcards."""
    template = TopicTemplate.parse(text)
    assert template.match(template.fill({"a": value})) == {"a": value}


def test_a_missing_value_is_an_error() -> None:
    """Nothing is published to an incomplete topic."""
    template = TopicTemplate.parse("hub/{site}/{device}")
    with pytest.raises(ValueError, match=r"'site' in .* has no value"):
        template.fill({"device": "a"})
    with pytest.raises(ValueError, match=r"'site' in .* has no value"):
        template.fill({"device": "a", "site": ""})
    with pytest.raises(ValueError, match="at most"):
        template.fill({"device": "a", "site": "b" * MAX_TOPIC_BYTES})


def test_a_foreign_percent_sign_stays() -> None:
    """Only the escapes that filling produces are decoded."""
    template = TopicTemplate.parse("{device}")
    assert template.match("a%41") == {"device": "a%41"}
    assert template.match("a%FF") == {"device": "a%FF"}
    assert template.match("a%2Fb") == {"device": "a/b"}


@given(templates(), templates())
@example(TopicTemplate.parse("a/{rest#}"), TopicTemplate.parse("a/"))
@example(TopicTemplate.parse("a/{rest#}"), TopicTemplate.parse("a"))
@example(TopicTemplate.parse("a/#"), TopicTemplate.parse("a"))
@example(TopicTemplate.parse("{rest#}"), TopicTemplate.parse("$a/b"))
@example(TopicTemplate.parse("{rest#}"), TopicTemplate.parse("/"))
def test_an_overlap_exists_exactly_if_a_topic_matches_both(one: TopicTemplate, other: TopicTemplate) -> None:
    """The example matches both. Without an example, a search over many topics finds none."""
    topic = overlap(one, other)
    assert (topic is None) == (overlap(other, one) is None)
    if topic is None:
        assert not [found for found in TOPICS if one.match(found) is not None and other.match(found) is not None]
    else:
        assert one.match(topic) is not None
        assert other.match(topic) is not None


@pytest.mark.parametrize(
    ("subscribed", "published", "topic"),
    [
        ("sensors/+/+", "hub/{device}/{metric}", None),
        ("#", "hub/{device}/{metric}", "hub/x/x"),
        ("hub/+/state", "hub/{device}/{metric}", "hub/x/state"),
        ("$share/g/hub/#", "hub/{device}/state", "hub/x/state"),
        ("+/status", "$hub/status", None),
    ],
)
def test_an_overlap_is_a_topic(subscribed: str, published: str, topic: str | None) -> None:
    """Templates may be given as texts."""
    assert overlap(subscribed, published) == topic


def test_members_of_a_group_subscribe_to_a_share() -> None:
    """Without a group the filter is unchanged."""
    assert shared("a/#", "") == "a/#"
    assert shared("a/#", "hubs") == "$share/hubs/a/#"
    with pytest.raises(ValueError, match="group"):
        shared("a/#", "a/b")
