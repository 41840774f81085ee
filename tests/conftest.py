"""The database, the app, and the cast: a stranger; Alice, who owns things; Charlie, who must not see them; Olga."""

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest
from asyncpg.prepared_stmt import PreparedStatement
from pytest_asyncio import is_async_test

# Before anything of the service is imported: its settings are read once.
DATA_DIR = Path(tempfile.mkdtemp(prefix="character-service-tests-"))
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
DATA_DIR.chmod(0o755)  # as root, PostgreSQL runs as another user
TEST_ENVIRONMENT = {
    "ENVIRONMENT": "development",
    "DATA_DIR": str(DATA_DIR),
    "DATABASE_URL": "",
    "LOG_LEVEL": "WARNING",
    "RATE_LIMIT_SCALE": "1000",
    "CORS_ORIGINS": "https://app.example.org",
    "PASSWORD_MEMORY_KIB": "8192",
    "PASSWORD_ITERATIONS": "1",
    "SECOND_FACTOR_KEY": "0123456789abcdef0123456789abcdef",
}
os.environ.update(TEST_ENVIRONMENT)

from service import settings as service_settings

# Less than the setting allows: a hash of the least takes 20 ms, and most tests make four.
service_settings.settings = msgspec.structs.replace(service_settings.settings, password_memory_kib=64)

from piccolo.apps.migrations.commands.forwards import run_forwards
from piccolo.apps.user.tables import BaseUser

from service.app import app as application
from service.audit.tables import AuditEntry
from service.auth.token_cache import forget_tokens
from service.database import embedded
from service.database.engine import DB
from service.piccolo_app import APP_CONFIG
from service.users.tables import User
from tests.support.answers import CheckingTransport
from tests.support.servers import Service, execute, service_of_its_own

TABLES = [table._meta.tablename for table in APP_CONFIG.table_classes if table is not AuditEntry]
NAMES = [f'"{name}"' for name in [*TABLES, "changed_rows", "user_usage"]]  # Piccolo does not know the last two
# To truncate 19 tables takes 80 ms, as it makes their files and those of their indexes anew, and has every statement
# planned anew; to delete a few rows takes 1 ms. The role makes no trigger fire and no foreign key count.
EMPTY_TABLES = f"""
DO $$ BEGIN
    IF (SELECT sum(pg_relation_size(name::regclass)) FROM unnest(ARRAY{NAMES}) AS name) > 2000000 THEN
        TRUNCATE {", ".join(NAMES)} CASCADE;
    ELSE
        SET LOCAL session_replication_role = replica;
        {"".join(f"DELETE FROM {name};" for name in NAMES)}
    END IF;
END $$"""
PASSWORD = "a long enough password"
OPERATORS_PASSWORD = "an operator's password"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def database() -> Iterator[None]:
    """A PostgreSQL of the tests' own, migrated."""
    share = embedded.start(DATA_DIR, ephemeral=True)
    import piccolo_conf  # noqa: F401 (makes migrations safe)

    result = asyncio.run(run_forwards("all"))
    assert result.success
    asyncio.run(execute(_superusers("service"), "GRANT SET ON PARAMETER session_replication_role TO service"))
    yield
    share.stop()


def _superusers(database: str) -> str:
    return embedded.dsn(DATA_DIR).replace("service@/service", f"postgres@/{database}")


@contextmanager
def database_of_its_own(template: str = "template1") -> Iterator[str]:
    """The address of a new database beside the one of the app: a copy of another, which nobody may use meanwhile."""
    name = f"fresh_{uuid4().hex}"
    asyncio.run(execute(_superusers("postgres"), f"CREATE DATABASE {name} OWNER service TEMPLATE {template}"))
    yield embedded.dsn(DATA_DIR).replace("@/service", f"@/{name}")
    asyncio.run(execute(_superusers("postgres"), f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def fresh_database(database: None) -> Iterator[str]:
    with database_of_its_own() as address:
        yield address


@pytest.fixture(scope="session")
def running_service() -> Iterator[Service]:
    """The service as a process of its own, shared by all tests: none stops or breaks it."""
    with service_of_its_own() as service:
        yield service.start()


@pytest.fixture(scope="session")
async def app(database: None) -> AsyncIterator[Any]:
    """The app, living in one task as anyio wants it: a fixture ends in another than it began in."""
    alive, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with application.lifespan():
            alive.set()
            await ending.wait()

    life = asyncio.create_task(live())
    starting = asyncio.create_task(alive.wait())
    await asyncio.wait({life, starting}, return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        life.result()
    yield application
    ending.set()
    await life


@pytest.fixture(autouse=True)
async def empty_tables(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Every test commits for real and finds empty tables, but for the audit log, which nobody empties."""
    yield
    if "app" in request.fixturenames:
        while True:
            try:
                await DB.run_ddl(EMPTY_TABLES)
                break
            except asyncpg.DeadlockDetectedError:  # the service reads its outbox; PostgreSQL ends either of the two
                await asyncio.sleep(0)
        forget_tokens()


def client(app: Any, address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
    transport = CheckingTransport(app, raise_app_exceptions=False, client=(address, 123))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


async def signed_in(app: Any, username: str) -> httpx.AsyncClient:
    """A new member's client."""
    stranger = client(app)
    account = {"email": f"{username}@example.org", "username": username, "password": PASSWORD}
    assert (await stranger.post("/v1/users", json=account)).status_code == 201
    session = await stranger.post("/v1/sessions", json={"login": username, "password": PASSWORD})
    assert session.status_code == 201
    return client(app, Authorization=f"Bearer {session.json()['token']}")


async def account_id(username: str) -> UUID:
    return (await User.select(User.id).where(User.username == username).output(as_list=True))[0]  # type: ignore[no-any-return] # Piccolo's


@pytest.fixture
async def stranger(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as stranger:
        yield stranger


@pytest.fixture
async def alice(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with await signed_in(app, "alice") as alice:
        yield alice


@pytest.fixture
async def charlie(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with await signed_in(app, "charlie") as charlie:
        yield charlie


@pytest.fixture
async def operator(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """An operator who signed in, made as `piccolo user create` makes one."""
    monkeypatch.setattr(BaseUser, "_pbkdf2_iteration_count", 1000)  # as many as Piccolo takes are slow
    await BaseUser.create_user("olga", OPERATORS_PASSWORD, email="olga@example.org", active=True, admin=True)
    async with browser(app) as operator:
        assert (await sign_in(operator, "olga")).status_code == 200
        yield operator
    await BaseUser.delete(force=True)


@asynccontextmanager
async def browser(app: Any, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who opened the admin site: the cookie, and the header that its scripts add."""
    async with client(app, address) as browser:
        assert (await browser.get("/admin/")).status_code == 200
        browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
        yield browser


async def sign_in(browser: httpx.AsyncClient, name: Any, password: Any = OPERATORS_PASSWORD) -> httpx.Response:
    return await browser.post("/admin/public/login/", json={"username": name, "password": password})


FIGHTER = {
    "type": "object",
    "required": ["strength", "race"],
    "properties": {
        "strength": {"type": "integer", "minimum": 1, "maximum": 20, "default": 10, "title": "Strength"},
        "race": {"type": "string", "enum": ["elf", "dwarf", "human"], "default": "human"},
        "motto": {"type": "string", "maxLength": 40},
    },
    "additionalProperties": False,
}


@pytest.fixture
async def statements(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """The queries on the pool's connections, without those of the mail worker, which run at any time."""
    run: list[str] = []
    fetch = PreparedStatement.fetch

    def note(record: Any) -> None:
        if "outbox" not in record.query:
            run.append(record.query)

    def fetch_and_note(prepared: Any, *values: Any, **given: Any) -> Any:  # asyncpg tells nobody of these
        run.append(prepared.get_query())
        return fetch(prepared, *values, **given)

    monkeypatch.setattr(PreparedStatement, "fetch", fetch_and_note)

    holders = DB.pool._holders
    for holder in holders:
        if holder._con is None:
            await holder.connect()
        holder._con.add_query_logger(note)
    yield run
    for holder in holders:
        if holder._con is not None:
            holder._con.remove_query_logger(note)


async def create(member: httpx.AsyncClient, path: str, **body: Any) -> Any:
    """The response of a POST that must succeed."""
    answer = await member.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def template(member: httpx.AsyncClient, **given: Any) -> Any:
    return await create(member, "/v1/templates", **{"name": "Fighter", "attribute_schema": FIGHTER} | given)


async def character(member: httpx.AsyncClient, **given: Any) -> Any:
    return await create(member, "/v1/characters", **{"name": "Mira"} | given)


async def public(member: httpx.AsyncClient, name: str = "Mira") -> Any:
    return await character(member, name=name, visibility="public")


@asynccontextmanager
async def without_quotas() -> AsyncIterator[None]:
    """For tests that insert more characters than a user may have."""
    await DB.run_ddl("ALTER TABLE characters DISABLE TRIGGER use_character")
    try:
        yield
    finally:
        await DB.run_ddl("ALTER TABLE characters ENABLE TRIGGER use_character")


async def relationship(member: httpx.AsyncClient, source: Any, target: Any, **given: Any) -> Any:
    path = f"/v1/characters/{source['id']}/relationships"
    return await create(member, path, **{"target": target["id"], "type": "parent_of"} | given)


async def with_key(app: Any, member: httpx.AsyncClient, *scopes: str) -> httpx.AsyncClient:
    """The member's program: a client with an API key."""
    key = await create(member, "/v1/api-keys", name="program", scopes=scopes, current_password=PASSWORD)
    return client(app, Authorization=f"Bearer {key['token']}")


def faults(answer: httpx.Response) -> dict[str, str]:
    """The faults of a problem, by pointer, parameter or header."""
    errors = answer.json().get("errors", [])
    return {
        error.get("pointer") or error.get("parameter") or error.get("header") or "": error["detail"] for error in errors
    }
