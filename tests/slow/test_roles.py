"""The roles of docs/operations.md: one owns the schema and migrates, the other serves and has rights to rows only."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR, PASSWORD
from tests.support.servers import ROOT, execute, piccolo, worker_of_its_own

pytestmark = pytest.mark.slow  # a process each

PRODUCTION = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}


def address(role: str, database: str = "characters") -> str:
    return embedded.dsn(DATA_DIR).replace("service@/service", f"{role}@/{database}")


@pytest.fixture(scope="module")
def roles(database: None) -> Iterator[None]:
    """As the page says, statement by statement."""
    text = (ROOT / "docs/operations.md").read_text()
    block = re.search(r"^```sql roles\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    role, name = "postgres", "postgres"
    try:
        for statement in block[1].splitlines():
            if connect := re.fullmatch(r"\\connect (\w+) (\w+)", statement):
                name, role = connect[1], connect[2]
            else:
                asyncio.run(execute(address(role, name), statement))
        yield
    finally:
        for statement in ("DATABASE IF EXISTS characters WITH (FORCE)", "ROLE characters_web", "ROLE characters_owner"):
            asyncio.run(execute(address("postgres", "postgres"), f"DROP {statement}"))


def test_the_service_needs_rights_to_rows_only(roles: None) -> None:
    owner = PRODUCTION | {"DATABASE_URL": address("characters_owner")}
    web = PRODUCTION | {"DATABASE_URL": address("characters_web")}
    assert piccolo("migrations", "forwards", "all", **web).returncode != 0, "it owns nothing"
    done = piccolo("migrations", "forwards", "all", **owner)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("seed --templates", "purge", "collect_files", "resync", "operator create --username=ada"):
        done = piccolo("service", *command.split(), given="seven quiet harbours\n", **web)
        assert done.returncode == 0, done.stdout + done.stderr
    with worker_of_its_own(**web) as service, service.start().client() as client:
        ready = client.get("/health/ready").json()
        assert (ready["status"], set(ready["checks"].values())) == ("ok", {"ok"})
        account = {"email": "ada@example.org", "username": "ada", "password": PASSWORD}
        assert client.post("/v1/users", json=account).status_code == 201
        session = client.post("/v1/sessions", json={"login": "ada", "password": PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {session['token']}"
        mira, otto = (client.post("/v1/characters", json={"name": name}).json()["id"] for name in ("Mira", "Otto"))
        relationship = {"target": otto, "type": "mentor_of"}
        assert client.post(f"/v1/characters/{mira}/relationships", json=relationship).status_code == 201
        assert client.patch(f"/v1/characters/{mira}", json={"name": "Mira H."}).status_code == 200
        assert client.get(f"/v1/characters/{mira}/revisions").status_code == 200
        assert len(client.get("/v1/changes").json()["items"]) == 2
        assert client.delete(f"/v1/characters/{otto}").status_code == 204
        assert client.get("/v1/characters", params={"q": "Mira"}).status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.request("DELETE", "/v1/users/me", json={"password": PASSWORD}).status_code == 204
        service.stop()
        assert "InsufficientPrivilege" not in service.output
        assert '"level":"ERROR"' not in service.output


def test_the_owner_makes_and_restores_backups(roles: None, tmp_path: Path) -> None:
    owner = PRODUCTION | {"DATABASE_URL": address("characters_owner"), "DATA_DIR": str(tmp_path / "data")}
    done = piccolo("service", "backup", str(tmp_path / "backup"), **owner)
    assert done.returncode == 0, done.stderr
    try:
        administrator = address("postgres", "postgres")
        asyncio.run(execute(administrator, "CREATE DATABASE characters_again OWNER characters_owner"))
        for extension in ("pg_trgm", "unaccent"):  # by an administrator, as on some managed servers
            asyncio.run(execute(address("postgres", "characters_again"), f"CREATE EXTENSION {extension}"))
        again = owner | {"DATABASE_URL": address("characters_owner", "characters_again")}
        done = piccolo("service", "restore", str(tmp_path / "backup"), **again)
        assert done.returncode == 0, done.stderr
        assert piccolo("service", "doctor", **again).returncode == 0
        # The database had no default privileges, so the role of the service has none
        (statements,) = re.findall(r"^privileges: only the owner .+ let it: (.+)$", done.stdout, re.MULTILINE)
        web = again | {"DATABASE_URL": address("characters_web", "characters_again")}
        examined = piccolo("service", "doctor", **web)
        assert examined.returncode == 1
        assert "FAULT  migrations  the role may not read which ran: give it its privileges" in examined.stdout
        grants = statements.replace("TO ROLE", "TO characters_web")
        assert "run as the owner of the tables " + grants.split(";")[0] in examined.stdout
        asyncio.run(execute(again["DATABASE_URL"], grants))
        examined = piccolo("service", "doctor", **web)
        assert examined.returncode == 0, examined.stdout
    finally:
        asyncio.run(execute(administrator, "DROP DATABASE IF EXISTS characters_again WITH (FORCE)"))


def test_the_role_of_the_service_neither_makes_nor_restores_backups(roles: None, tmp_path: Path) -> None:
    """It says in one line which role is needed."""
    owner = PRODUCTION | {"DATABASE_URL": address("characters_owner"), "DATA_DIR": str(tmp_path / "data")}
    assert piccolo("service", "backup", str(tmp_path / "backup"), **owner).returncode == 0
    web = owner | {"DATABASE_URL": address("characters_web")}
    for command, fault in (
        (("backup", str(tmp_path / "another")), r"No backup was made: the role characters_web may not read \w+\."),
        (
            ("restore", str(tmp_path / "backup")),
            r"Nothing was restored: the role characters_web may not create tables\.",
        ),
    ):
        done = piccolo("service", *command, **web)
        assert done.returncode != 0
        assert re.fullmatch(rf"{fault} Use the role that owns the database, characters_owner\.\n", done.stderr), (
            done.stderr
        )
    assert not (tmp_path / "another").exists()


def test_the_role_of_the_service_cannot_change_the_schema(roles: None) -> None:
    for statement in ("CREATE TABLE one (a int)", "DROP TABLE users", "TRUNCATE users", "ALTER TABLE users ADD a int"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError)):
            asyncio.run(execute(address("characters_web"), statement))
