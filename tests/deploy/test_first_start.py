"""Program deploy/first_start.py: the secrets of a new installation are created once."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest

from deploy.first_start import INFLUXDB, StartError, main, make_secrets, make_tokens, mosquitto_hash, show
from tests.services.influxdb import Access, InfluxdbServer

MADE = ["influxdb/admin-password", "influxdb/admin-token", "grafana/admin-password", "mosquitto/password"]


def contents(root: Path) -> dict[str, str]:
    """Return every file below the folder of the secrets."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_secrets_are_created_once(tmp_path: Path) -> None:
    """The first start creates long and different secrets; a later start changes none."""
    assert make_secrets(tmp_path) == [*MADE, "mosquitto/users"]
    first = contents(tmp_path)
    assert len({first[name] for name in MADE}) == len(MADE)
    assert all(len(first[name]) == 32 for name in MADE)
    assert make_secrets(tmp_path) == []
    assert contents(tmp_path) == first


def test_a_missing_secret_is_created_and_the_others_stay(tmp_path: Path) -> None:
    """The next start completes an interrupted one."""
    make_secrets(tmp_path)
    first = contents(tmp_path)
    (tmp_path / "grafana" / "admin-password").unlink()
    assert make_secrets(tmp_path) == ["grafana/admin-password"]
    again = contents(tmp_path)
    assert {name for name in first if again[name] != first[name]} == {"grafana/admin-password"}


def test_only_its_service_can_read_a_secret(tmp_path: Path) -> None:
    """A secret belongs to the user of its service, who can only read it; no other user has access."""
    make_secrets(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o400, path


def test_the_broker_s_users_file_holds_no_password(tmp_path: Path) -> None:
    """The file has the user and a salted hash, which differs each time."""
    make_secrets(tmp_path)
    made = contents(tmp_path)
    assert made["mosquitto/users"].startswith("telemetry:$7$")
    assert made["mosquitto/password"] not in made["mosquitto/users"]
    assert mosquitto_hash("the same") != mosquitto_hash("the same")


def test_show_prints_the_passwords_only(tmp_path: Path) -> None:
    """`show` prints the passwords, and no token."""
    make_secrets(tmp_path)
    made = contents(tmp_path)
    lines = show(tmp_path)
    assert [line.rpartition(" ")[2] for line in lines] == [made[name] for name in (MADE[2], MADE[0], MADE[3])]


def test_wrong_use_has_its_own_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unknown word or a missing variable exits with 2; missing secrets exit with 1."""
    monkeypatch.setenv("SECRETS", str(tmp_path))
    for name in ("INFLUXDB_URL", "INFLUXDB_ORG", "INFLUXDB_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    assert main(["everything"]) == 2
    assert main(["tokens"]) == 2
    assert main(["show"]) == 1
    errors = capsys.readouterr().err
    assert "usage: first_start.py secrets|tokens|show" in errors
    assert "INFLUXDB_URL is not set" in errors


def with_admin(root: Path, access: Access) -> tuple[Path, str, str, str]:
    """Return the arguments of make_tokens for a bucket, after the first start created its secrets."""
    (root / INFLUXDB.folder).mkdir(exist_ok=True)
    (root / INFLUXDB.folder / "admin-token").write_text(access.token)
    return root, access.url, access.org, access.bucket


def write(access: Access, token: str) -> int:
    """Return InfluxDB's status for a write into a bucket."""
    where = {"org": access.org, "bucket": access.bucket}
    answer = httpx.post(f"{access.url}/api/v2/write", params=where, content="m v=1", headers=by(token))
    return answer.status_code


def read(access: Access, token: str) -> int:
    """Return the number of readings that a query of a bucket finds; a bucket without access has none."""
    query = {"db": access.bucket, "q": 'SELECT "v" FROM "m"'}
    answer = httpx.get(f"{access.url}/query", params=query, headers=by(token))
    if answer.status_code != 200:
        return 0
    return sum(len(series["values"]) for series in answer.json()["results"][0].get("series", []))


def by(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


def test_the_hub_can_write_its_bucket_and_grafana_can_only_read_it(tmp_path: Path, influxdb2: InfluxdbServer) -> None:
    """The tokens open one bucket; none of them opens another bucket or creates tokens."""
    mine, other = influxdb2.fresh(), influxdb2.fresh()
    assert write(other, other.token) == 204
    made = make_tokens(*with_admin(tmp_path, mine))
    assert made == ["hub/influxdb-token", "grafana/influxdb-token"]
    hub, grafana = ((tmp_path / name).read_text() for name in made)
    assert write(mine, hub) == 204
    assert write(mine, grafana) in (403, 404)
    assert write(other, hub) in (403, 404)
    for token in (hub, grafana):
        assert (read(mine, token), read(other, token)) == (1, 0)
        asked = httpx.post(f"{mine.url}/api/v2/buckets", json={"name": "more"}, headers=by(token))
        assert asked.status_code >= 400


def test_tokens_are_created_again_only_where_influxdb_does_not_know_them(
    tmp_path: Path, influxdb2: InfluxdbServer
) -> None:
    """A second start changes nothing; after InfluxDB's volume was lost the tokens are new."""
    where = with_admin(tmp_path, influxdb2.fresh())
    make_tokens(*where)
    first = contents(tmp_path)
    assert make_tokens(*where) == []
    assert contents(tmp_path) == first
    path = tmp_path / "hub" / "influxdb-token"
    path.chmod(0o600)
    path.write_text("of an InfluxDB that is gone")
    assert make_tokens(*where) == ["hub/influxdb-token"]
    assert path.read_text() != "of an InfluxDB that is gone"


def test_a_missing_bucket_is_an_error_that_says_what_to_do(tmp_path: Path, influxdb2: InfluxdbServer) -> None:
    """The names apply when InfluxDB's volume is created; after a later change the error says what to do."""
    root, url, org, _ = with_admin(tmp_path, influxdb2.fresh())
    with pytest.raises(StartError, match=r"no bucket 'nowhere'.*count when its volume is made"):
        make_tokens(root, url, org, "nowhere")


def test_an_unreachable_influxdb_is_an_error(tmp_path: Path) -> None:
    """The message names the address."""
    where = with_admin(tmp_path, Access(2, "http://127.0.0.1:1", "telemetry", org="telemetry", token="any"))
    with pytest.raises(StartError, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        make_tokens(*where)
