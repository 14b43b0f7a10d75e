"""Checks of docker-compose.yml: as Compose reads it, for its settings, and for what the network can reach."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_address
from pathlib import Path

import pytest

from deploy import first_start
from hub.app.check import trusted_proxies
from hub.app.run import CLOSING_S, DRAIN_S
from hub.config.settings import load_settings
from tests.deploy.compose import DOCKERFILE, FILE, PINNED, ROOT, VARIABLE, Model, read_compose, read_dockerfile

PROFILES = {"mosquitto": ["mqtt"], "grafana": ["grafana"]}
ONCE = {"secrets", "tokens"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCUMENTED = re.compile(r"^\| `([A-Z_]+)` \| `([^`]*)` \|", re.MULTILINE)
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|(^|_)KEY(_|$)")


def defaults() -> dict[str, str]:
    """Return every variable of the file with its default."""
    found: dict[str, str] = {}
    for name, operator, default in VARIABLE.findall(FILE.read_text()):
        assert operator == ":-", f"{name}: an empty variable must not take a default away"
        assert found.setdefault(name, default) == default, f"{name} has two defaults"
    return found


def seconds(duration: str) -> float:
    """Return the seconds of a Compose duration such as `45s` or `1m0s`."""
    return sum(float(number) * {"m": 60, "s": 1}[unit] for number, unit in re.findall(r"([\d.]+)([ms])", duration))


def test_the_file_is_a_compose_file(model: Model) -> None:
    """Compose's own reader accepts the file with every service."""
    assert model["services"].keys() == {*ONCE, *PROFILES, "hub", "influxdb"}


def test_the_broker_and_grafana_start_with_their_profiles_only(model: Model) -> None:
    """The broker and Grafana each have a profile; everything else starts without one."""
    assert {name: s["profiles"] for name, s in model["services"].items() if "profiles" in s} == PROFILES


def test_every_image_is_pinned(model: Model) -> None:
    """Each image has an exact version, the same everywhere; the hub's version is the project's."""
    images = {name: service["image"] for name, service in model["services"].items()}
    assert images["hub"] == f"telemetry-hub:{VERSION}"
    assert [image for image in images.values() if not PINNED.fullmatch(image)] == []
    base = read_dockerfile(DOCKERFILE.read_text())[-1][0].rest
    assert {images[name] for name in ONCE} == {base}


def test_every_variable_is_documented_with_its_default() -> None:
    """Each variable of the file, and no other, has a line in .env.example and a row in docs/operations.md."""
    example = (ROOT / ".env.example").read_text()
    assert dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.MULTILINE)) == defaults()
    assert dict(DOCUMENTED.findall((ROOT / "docs" / "operations.md").read_text())) == defaults()


def test_the_hub_s_environment_is_settings(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub accepts the settings of the file and the image, and stores in InfluxDB with the provided token."""
    token = tmp_path / "influxdb-token"
    token.write_text("made at the first start")
    image = " ".join(i.rest for i in read_dockerfile(DOCKERFILE.read_text())[-1] if i.word == "ENV")
    environment = model["services"]["hub"]["environment"]
    for name, value in {**dict(re.findall(r"(HUB_\w+)=(\S+)", image)), **environment}.items():
        monkeypatch.setenv(name, str(token) if name == "INFLUXDB_TOKEN_FILE" else value)
    settings = load_settings()
    assert (settings.address, settings.data) == (("0.0.0.0", 8600), Path("/data"))
    assert settings.access.behind_proxy
    assert settings.public_url is None
    # Docker's first networks, from which a proxy on the machine arrives, and not the networks of a home or an office.
    proxies = trusted_proxies(settings)
    arriving = {address: proxies.trusts(ip_address(address)) for address in ("172.17.0.1", "172.31.0.9", "192.168.1.2")}
    assert arriving == {"172.17.0.1": True, "172.31.0.9": True, "192.168.1.2": False}
    assert settings.store.url == environment["INFLUXDB_URL"]
    assert (settings.store.org, settings.store.bucket) == ("telemetry", "telemetry")
    assert settings.store.token is not None
    assert settings.store.token.get_secret_value() == token.read_text()


def test_the_broker_of_the_example_is_the_one_of_the_file(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker settings in .env.example are valid and name an existing service on its internal port."""
    (example,) = re.findall(r"^# (\[\{.*\}\])$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    monkeypatch.setenv("HUB_MQTT", example)
    (broker,) = load_settings().mqtt
    assert broker.address.host in model["services"]
    assert f"listener {broker.address.port}\nallow_anonymous true" in (ROOT / "deploy" / "mosquitto.conf").read_text()


def test_no_secret_is_in_the_file(model: Model) -> None:
    """A password or token is a file in the volume of its service; no variable and no value holds one."""
    assert [name for name in defaults() if SECRET.search(name)] == []
    for service, content in model["services"].items():
        for name, value in content.get("environment", {}).items():
            if SECRET.search(name):
                assert name.endswith("_FILE"), name
                assert value.startswith(f"/run/secrets/{service}/"), value


def test_a_service_sees_its_own_secrets_only(model: Model) -> None:
    """Each volume of secrets is mounted read-only into its service, and writable only where secrets are created."""
    for service in (first_start.HUB, first_start.INFLUXDB, first_start.GRAFANA, first_start.MOSQUITTO):
        mounted = {
            name: (volume["target"], volume.get("read_only", False))
            for name, content in model["services"].items()
            for volume in content["volumes"]
            if volume["source"] == f"{service.folder}-secrets" and name not in ONCE
        }
        assert mounted == {service.folder: (f"/run/secrets/{service.folder}", True)}
    for name in ONCE:
        for volume in model["services"][name]["volumes"]:
            if volume["type"] == "volume":
                assert volume["target"] == f"/secrets/{volume['source'].removesuffix('-secrets')}"


def test_ports_are_published_to_this_machine_alone(model: Model) -> None:
    """The hub, the broker with passwords and Grafana publish a port on this machine; InfluxDB publishes none."""
    published = {
        name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
        for name, service in model["services"].items()
        if "ports" in service
    }
    assert published == {
        "hub": [("127.0.0.1", "8600", 8600)],
        "mosquitto": [("127.0.0.1", "1883", 1884)],
        "grafana": [("127.0.0.1", "3000", 3000)],
    }


def test_a_variable_changes_where_the_hub_is_published(compose_program: Path, tmp_path: Path) -> None:
    """PUBLISH_HUB takes an address and a port."""
    model = read_compose(compose_program, tmp_path, {"PUBLISH_HUB": "0.0.0.0:443"})
    port = model["services"]["hub"]["ports"][0]
    assert (port["host_ip"], port["published"], port["target"]) == ("0.0.0.0", "443", 8600)


@pytest.mark.parametrize("name", ["hub", "influxdb", "mosquitto", "grafana"])
def test_every_service_is_monitored_bounded_and_stopped_in_order(name: str, model: Model) -> None:
    """Every service has a health check, a restart policy, a stop period, and bounds on memory, processes and logs."""
    service = model["services"][name]
    # The hub's check is in its image.
    assert "healthcheck" in service or "HEALTHCHECK" in DOCKERFILE.read_text().split("FROM ")[-1]
    assert service["restart"] == "unless-stopped"
    assert service["init"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert seconds(service["stop_grace_period"]) >= 15


def test_the_hub_gets_the_time_to_store_what_it_has(model: Model) -> None:
    """Docker waits at least as long as the hub needs to stop by itself."""
    assert seconds(model["services"]["hub"]["stop_grace_period"]) > CLOSING_S + DRAIN_S + 10


def test_services_start_after_the_secrets_and_services_that_they_need(model: Model) -> None:
    """A service starts after everything that it needs has been created or is healthy."""
    order = {
        name: {needed: rule["condition"] for needed, rule in service.get("depends_on", {}).items()}
        for name, service in model["services"].items()
    }
    made, healthy = "service_completed_successfully", "service_healthy"
    assert order == {
        "secrets": {},
        "influxdb": {"secrets": made},
        "tokens": {"influxdb": healthy},
        "hub": {"tokens": made},
        "grafana": {"tokens": made},
        "mosquitto": {"secrets": made},
    }


def test_every_mounted_path_exists(model: Model) -> None:
    """Mounted files come from this tree, read-only; data is in named volumes, and each volume is used."""
    used = set()
    for service in model["services"].values():
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert (ROOT / volume["source"]).exists(), volume["source"]
                assert volume["read_only"], volume["source"]
            else:
                used.add(volume["source"])
    assert used == model["volumes"].keys()
