"""The port of a setting, among those that are present."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources.ports import PortError
from device_agent.sources.ports.selection import NOT_FOUND, PortInfo, choose_port, selector_kind


def board(name: str, serial_number: str = "", *, location: str = "1-1", pid: str = "0043") -> PortInfo:
    return PortInfo(path=f"/dev/{name}", vid="2341", pid=pid, serial_number=serial_number, location=location)


def choose(text: str, *ports: PortInfo, before: PortInfo | None = None, names: tuple[str, ...] = ()) -> str:
    """Choose among ports; the setting itself names `names`, or the port with its path."""
    present = {port.path: port for port in ports if port.path in (text, *names)}
    return choose_port(text, present, ports, before)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/dev/ttyUSB0", "path"),
        ("COM3", "path"),
        ("/dev/serial/by-id/usb-Arduino*", "pattern"),
        ("2341:0043", "usb"),
        ("1a86:7523:A0:B", "usb"),
        ("socket://terminal-server:2001", "url"),
        ("rfc2217://terminal-server:2217", "url"),
    ],
)
def test_a_setting_is_a_path_a_pattern_a_device_or_an_address(text: str, kind: str) -> None:
    """Its form decides."""
    assert selector_kind(text) == kind


def test_a_device_is_found_by_its_ids_and_its_serial_number() -> None:
    """Upper and lower case mean the same; the serial number chooses among alike boards."""
    first, second, other = board("ttyACM0", "A1"), board("ttyACM1", "B2"), board("ttyACM2", pid="8036")
    assert choose("2341:8036", first, second, other) == "/dev/ttyACM2"
    assert choose("2341:0043:B2", first, second, other) == "/dev/ttyACM1"
    with pytest.raises(PortError, match=r"2 ports match 2341:0043: /dev/ttyACM0 \(2341:0043:A1\), .*VID:PID:SERIAL"):
        choose("2341:0043", first, second, other)
    with pytest.raises(PortError, match="no port matches 2341:0044; is the device plugged in"):
        choose("2341:0044", first, second, other)


def test_one_of_several_ports_is_the_one_before() -> None:
    """A board that was read continues to be read when another one is plugged in beside it."""
    before = board("ttyUSB0", location="1-2")
    again, other = board("ttyUSB3", location="1-2"), board("ttyUSB0", location="1-3")
    assert choose("2341:0043", again, other, before=before) == "/dev/ttyUSB3"
    assert choose("/dev/ttyUSB*", again, other, before=before, names=(again.path, other.path)) == "/dev/ttyUSB3"
    assert choose("2341:0043", other, before=before) == "/dev/ttyUSB0"


def test_a_device_is_followed_to_another_name() -> None:
    """By its serial number, or by its place if it has none; another board at its name is not read instead."""
    before = board("ttyUSB0", "A1")
    assert choose("/dev/ttyUSB0", board("ttyUSB1", "A1", location="2-4"), before=before) == "/dev/ttyUSB1"
    swapped = board("ttyUSB0", "B2"), board("ttyUSB1", "A1")
    assert choose("/dev/ttyUSB0", *swapped, before=before) == "/dev/ttyUSB1"
    with pytest.raises(PortError, match="2341:0043:B2 instead of 2341:0043:A1"):
        choose("/dev/ttyUSB0", swapped[0], before=before)
    without = board("ttyUSB0")
    assert choose("/dev/ttyUSB0", board("ttyUSB1"), before=without) == "/dev/ttyUSB1"
    with pytest.raises(PortError, match="does not exist"):
        choose("/dev/ttyUSB0", board("ttyUSB1", location="2-4"), before=without)
    assert choose("/dev/ttyUSB0", board("ttyUSB0", location="2-4"), before=without) == "/dev/ttyUSB0"


def test_a_link_is_not_followed() -> None:
    """The maker of a link decides its meaning, also when another device is there."""
    before = board("ttyUSB0", "A1")
    link = "/dev/serial/by-path/pci-0-port0"
    assert choose_port(link, {link: board("ttyUSB0", "B2")}, [board("ttyUSB1", "A1")], before) == link
    with pytest.raises(PortError, match="does not exist"):
        choose_port(link, {}, [board("ttyUSB1", "A1")], before)


BOARDS = st.builds(
    board,
    st.sampled_from(["ttyUSB0", "ttyUSB1", "ttyUSB2"]),
    st.sampled_from(["", "A1", "B2"]),
    location=st.sampled_from(["1-1", "1-2", "1-3"]),
    pid=st.sampled_from(["0043", "8036"]),
)


@given(
    st.sampled_from(["/dev/ttyUSB0", "/dev/ttyUSB*", "2341:0043", "2341:0043:A1"]),
    st.lists(BOARDS, max_size=3, unique_by=(lambda port: port.path, lambda port: port.location)),
    BOARDS | st.none(),
)
def test_readings_of_one_board_never_come_from_another(
    text: str, ports: list[PortInfo], before: PortInfo | None
) -> None:
    """The chosen port exists and fits the setting; a name of the kernel stays with its device."""
    names = tuple(port.path for port in ports) if "*" in text else ()
    try:
        chosen = choose(text, *ports, before=before, names=names)
    except PortError as error:
        assert str(error)
        return
    (port,) = [port for port in ports if port.path == chosen]
    if ":" in text:
        assert port.usb_id.startswith(text)
    if text == "/dev/ttyUSB0" and before is not None:
        assert port.is_like(before)
    if text == "/dev/ttyUSB0" and before is None:
        assert chosen == text


def test_a_missing_port_is_named_for_people() -> None:
    """The error says what to look at."""
    with pytest.raises(PortError) as missing:
        choose("/dev/ttyUSB0")
    assert str(missing.value) == NOT_FOUND
