"""The admin site: operators sign in and see everything but secrets. No table can be written."""

import asyncio
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from piccolo.apps.user.tables import BaseUser
from piccolo.columns import JSON
from piccolo_api.encryption.providers import FernetProvider

from service.admin import mount
from service.admin.lists import LINKS
from service.admin.lists import TABLES as LISTED
from service.admin.operators import Operator
from service.admin.roles import store_role
from service.admin.second_factors import SecondFactor, encryption_key
from service.admin.site import AllowedHosts
from service.auth.tables import EmailToken
from service.database.engine import DB
from service.mail.tables import Message
from service.piccolo_app import APP_CONFIG
from service.users.tables import ReservedUsername
from tests.conftest import OPERATORS_PASSWORD, PASSWORD, browser, character, client, create, sign_in, template
from tests.support.cards import V3, imported, in_charx
from tests.support.pictures import give_portrait

TABLES = [table._meta.tablename for table in (*APP_CONFIG.table_classes, BaseUser)]
RENAMED = {Operator: "Operators"}  # by a script, which tests/slow/test_browser.py looks at
SECRETS = [
    ("users", "password_hash"),
    ("tokens", "digest"),
    ("piccolo_user", "password"),
    ("operator_sessions", "digest"),
    ("operator_sessions", "password_digest"),
    ("operator_second_factors", "secret"),
    ("operator_second_factors", "recovery_codes"),
]

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def test_many_first_requests_use_one_thread(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module, running, most = mount.import_module, 0, 0

    def import_slowly(name: str) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.1)
        module = import_module(name)
        running -= 1
        return module

    monkeypatch.setattr(mount, "import_module", import_slowly)
    monkeypatch.setattr(mount, "_modules", [])
    async with client(app) as stranger:
        answers = await asyncio.gather(*(stranger.get("/admin/") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert most == 1


async def test_the_address_without_a_slash_redirects_to_the_page(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/admin")
    assert (answer.status_code, answer.headers["location"]) == (307, "/admin/")
    page = await stranger.get("/admin/")
    assert "text/html" in page.headers["content-type"]
    script = page.text.partition('src="./')[2].partition('"')[0]
    assert (await stranger.get(f"/admin/{script}")).headers["content-type"].startswith("text/javascript")


async def test_a_redirect_of_the_site_keeps_the_prefix(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/admin/public/meta")
    assert answer.headers["location"] == "http://localhost/admin/public/meta/"


@pytest.mark.parametrize("path", ["/administrator", "/admin-old/", "/admin/api/docs/", "/admin/public/docs/"])
async def test_a_path_outside_of_the_site_is_a_problem(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["instance"] == path


async def test_the_page_runs_only_its_own_scripts(stranger: httpx.AsyncClient) -> None:
    policy = (await stranger.get("/admin/")).headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy


async def test_a_stranger_sees_no_table(stranger: httpx.AsyncClient) -> None:
    for path in ("/admin/api/tables/", "/admin/api/openapi.json", *(f"/admin/api/tables/{name}/" for name in TABLES)):
        assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("olga", "not an operator's password"),
        ("nobody", OPERATORS_PASSWORD),
        ("ol\0ga", OPERATORS_PASSWORD),
        ("olga", "x" * 129),
        (7, OPERATORS_PASSWORD),
        ("olga", 7),
    ],
)
async def test_wrong_credentials_open_nothing(app: Any, operator: Any, name: Any, password: Any) -> None:
    async with browser(app) as intruder:
        assert (await sign_in(intruder, name, password)).status_code == 401
        assert (await intruder.get("/admin/api/tables/")).status_code == 401


@pytest.mark.parametrize("missing", ["active", "admin"])
async def test_only_active_operators_sign_in(app: Any, operator: Any, missing: str) -> None:
    async with browser(app) as former:
        await BaseUser.update({missing: False}, force=True)
        assert (await sign_in(former, "olga")).status_code == 401
    assert (await operator.get("/admin/api/tables/")).status_code == 401


async def test_users_are_not_operators(app: Any, alice: httpx.AsyncClient) -> None:
    assert (await alice.get("/admin/api/tables/")).status_code == 401
    async with browser(app) as member:
        assert (await sign_in(member, "alice", PASSWORD)).status_code == 401


async def test_signing_in_needs_the_csrf_token(app: Any, operator: Any) -> None:
    async with browser(app) as forged:
        forged.headers["X-CSRFToken"] = "another"
        assert (await sign_in(forged, "olga")).status_code == 403
        del forged.headers["X-CSRFToken"]
        assert (await sign_in(forged, "olga")).status_code == 403


async def test_over_https_only_our_own_pages_may_sign_in(app: Any, operator: Any) -> None:
    async with browser(app) as over_https:
        over_https.base_url = httpx.URL("https://localhost")
        over_https.headers["Origin"] = "https://elsewhere.example"
        assert (await sign_in(over_https, "olga")).status_code == 403
        over_https.headers["Origin"] = "https://localhost"
        assert (await sign_in(over_https, "olga")).status_code == 200


def test_allowed_hosts_may_be_all_subdomains() -> None:
    hosts = AllowedHosts(("example.net", "*.example.org"))
    assert "api.example.org" in hosts
    assert "example.net" in hosts
    assert "example.org" not in hosts
    assert "api.example.net" not in hosts


async def test_cookies_are_sent_to_the_site_only(app: Any, operator: Any) -> None:
    async with client(app) as visitor:
        given = (await visitor.get("/admin/")).headers["set-cookie"].split("; ")
        assert {"Path=/admin/", "SameSite=strict"} <= set(given)
        visitor.headers["X-CSRFToken"] = visitor.cookies["csrftoken"]
        given = (await sign_in(visitor, "olga")).headers["set-cookie"].split("; ")
        assert {"Path=/admin/", "SameSite=strict", "HttpOnly"} <= set(given)


async def test_signing_out_ends_the_session(operator: httpx.AsyncClient) -> None:
    cookie = operator.cookies["id"]
    assert (await operator.post("/admin/public/logout/")).status_code == 200
    assert (await operator.get("/admin/api/tables/", headers={"Cookie": f"id={cookie}"})).status_code == 401


async def test_hashing_a_password_does_not_delay_other_requests(app: Any) -> None:
    async with browser(app) as slow:
        longest, last = 0.0, time.perf_counter()
        signing_in = asyncio.create_task(sign_in(slow, "nobody"))
        while not signing_in.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    Operator.hash_password(OPERATORS_PASSWORD)
    assert longest < (time.perf_counter() - last) / 2


async def test_a_password_with_a_weaker_hash_is_hashed_again(app: Any, operator: httpx.AsyncClient) -> None:
    async def iterations() -> str:
        return str((await BaseUser.select(BaseUser.password).first())["password"].split("$")[1])

    await BaseUser.update({BaseUser.password: BaseUser.hash_password(OPERATORS_PASSWORD, iterations=10)}, force=True)
    assert await iterations() == "10"
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 200
    assert await iterations() == "1000"


async def test_operators_change_their_password(app: Any, operator: httpx.AsyncClient) -> None:
    passwords = {"current_password": OPERATORS_PASSWORD, "new_password": "newer", "confirm_new_password": "newer"}
    path = "/admin/api/change-password/"
    assert (await operator.post(path, json=passwords)).status_code == 422
    passwords |= {"new_password": "a newer password", "confirm_new_password": "a newer password"}
    assert (await operator.post(path, json=passwords)).status_code == 303
    async with browser(app) as again:
        assert (await sign_in(again, "olga")).status_code == 401
        assert (await sign_in(again, "olga", "a newer password")).status_code == 200
    assert (await operator.get("/admin/api/tables/")).status_code == 401


async def test_every_table_is_shown_in_a_group(operator: httpx.AsyncClient) -> None:
    assert sorted((await operator.get("/admin/api/tables/")).json()) == sorted(TABLES)
    groups = (await operator.get("/admin/api/tables/grouped/")).json()
    assert groups["ungrouped"] == []
    assert list(groups["grouped"]) == ["Characters", "Members", "Operators", "Templates"]


async def a_second_factor() -> None:
    olga: Any = await BaseUser.select(BaseUser.id).first()
    await SecondFactor.create_new(olga["id"], FernetProvider(encryption_key()), 8)


async def a_row_everywhere(alice: httpx.AsyncClient) -> None:
    rules = await template(alice)
    mira = await character(alice, template=rules["id"], attributes={"strength": 3})
    odo = await character(alice, name="Odo")
    await create(alice, f"/v1/characters/{mira['id']}/relationships", target=odo["id"], type="friend_of")
    assert (
        await alice.post("/v1/characters", json={"name": "Una"}, headers={"Idempotency-Key": "once"})
    ).status_code == 201
    renamed = await alice.patch(f"/v1/characters/{odo['id']}", json={"name": "Odon"})
    assert renamed.status_code == 200
    await give_portrait(odo)
    await imported(alice, in_charx(V3, **{"assets/a.bin": b"1"}))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await Message.insert(Message(id=uuid4(), kind="reset", address="alice@example.org", due_at=tomorrow))
    await ReservedUsername.insert(ReservedUsername(username="ada", until=tomorrow))
    await a_second_factor()
    await store_role(0, "reader")
    await EmailToken.insert(
        EmailToken(
            id=uuid4(),
            user=(await alice.get("/v1/users/me")).json()["id"],
            purpose="reset",
            digest=b"not a digest",
            email_key="alice@example.org",
            expires_at=tomorrow,
        )
    )


async def test_every_table_can_be_read_and_none_written(operator: Any, alice: httpx.AsyncClient) -> None:
    await a_row_everywhere(alice)
    for name in TABLES:
        path = f"/admin/api/tables/{name}/"
        rows = (await operator.get(path, params={"__readable": "true"})).json()["rows"]
        assert rows, name
        key = rows[0].get("id") or rows[0].get("name") or rows[0]["username"]
        for part in ("ids/", "count/", "schema/", "references/", "new/", f"{key}/"):
            assert (await operator.get(path + part)).status_code == 200, path + part
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for address in (path, f"{path}{key}/"):
                answer = await operator.request(method, address, json={})
                assert answer.status_code == 405, (method, address)
                assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert (await operator.get(path, params={"__readable": "true"})).json()["rows"] == rows


def test_the_documentation_names_the_tables_as_the_sidebar_does() -> None:
    document = (Path(__file__).parents[3] / "docs/admin.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| `", document, re.MULTILINE) + re.findall(
        r"^\| (Templates) \| ([^|]+) \| No `owner`", document, re.MULTILINE
    )
    documented = {(group, re.sub(r" \(.*\)", "", name)) for group, names in rows for name in names.split(", ")}
    assert documented == {
        (
            config.menu_group,
            RENAMED.get(config.table_class) or config.table_class._meta.tablename.replace("_", " ").title(),
        )
        for config in LISTED
    }


async def test_a_filter_never_fails(operator: Any, alice: httpx.AsyncClient) -> None:
    """Piccolo Admin would fail on a filter by a JSON column, and on values that a column cannot have."""
    await a_row_everywhere(alice)
    tried = set()  # one column of each kind is enough, but for JSON
    for table in (*APP_CONFIG.table_classes, BaseUser):
        path = f"/admin/api/tables/{table._meta.tablename}/"
        filters = (await operator.get(f"{path}schema/")).json()["extra"]["visible_filter_names"]
        for column in table._meta.columns:
            name, is_json = column._meta.name, isinstance(column, JSON)
            assert not (is_json and name in filters)
            if column._meta.secret or (type(column) in tried and not is_json):
                continue
            tried.add(type(column))
            for query in (f"{name}=a", f"{name}=1", f"{name}[]=1", f"{name}__operator=is_null"):
                status = (await operator.get(f"{path}?{query}")).status_code
                assert status == 400 if is_json else status < 500, (path, query)


async def test_states_are_shown_and_filtered_as_choices(operator: Any, alice: httpx.AsyncClient) -> None:
    await character(alice, visibility="public")
    path = "/admin/api/tables/characters/"
    schema = (await operator.get(f"{path}schema/")).json()
    assert {"visibility", "deleted_at"} <= {*schema["extra"]["visible_column_names"]}
    choices = schema["properties"]["visibility"]["extra"]["choices"]
    assert {choice["value"] for choice in choices.values()} == {"private", "unlisted", "public"}
    assert len((await operator.get(f"{path}?visibility=public")).json()["rows"]) == 1
    assert (await operator.get(f"{path}?visibility=private")).json()["rows"] == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        (
            "characters/?visibility=pub",
            "The filter by visibility is 'pub', but must be one of private, unlisted, public.",
        ),
        (
            "characters/?visibility[]=pub",
            "The filter by visibility is 'pub', but must be one of private, unlisted, public.",
        ),
        ("users/?status=deleted", "The filter by status is 'deleted', but must be one of active, suspended."),
        ("characters/?owner=nonsense", "The filter by owner is 'nonsense', but must be an id."),
        ("audit_log/?row=alice&row__match=exact", "The filter by row is 'alice', but must be an id."),
        ("audit_log/?member=alice", "The filter by member is 'alice', but must be an id."),
        ("operator_sessions/?user_id=x", "The filter by user_id has a value that the column cannot have."),
        ("operator_sessions/?user_id=99999999999", "The filter by user_id has a value that the column cannot have."),
        ("users/?deleted_at=yesterday", "The filter by deleted_at has a value that the column cannot have."),
        ("users/?deleted_at__operator=maybe&status=active", "Unrecognised __operator argument - maybe"),
        ("users/?__order=password_hash", "Rows cannot be sorted by password_hash."),
    ],
)
async def test_a_refused_list_names_the_column(operator: Any, query: str, fault: str) -> None:
    answer = await operator.get(f"/admin/api/tables/{query}")
    assert (answer.status_code, answer.json()) == (400, {"detail": fault})
    other = await DB.get_new_connection()  # the same connection would end the statement
    try:
        locks = "SELECT FROM pg_locks WHERE relation = $1::text::regclass"
        assert await other.fetch(locks, query.partition("/")[0]) == [], "a connection waits within a statement"
    finally:
        await other.close()


@pytest.mark.parametrize("query", ["characters/?visibility=null", "audit_log/?row=999999999", "card_assets/?file=a"])
async def test_a_filter_that_finds_nothing_is_no_fault(operator: Any, query: str) -> None:
    assert (await operator.get(f"/admin/api/tables/{query}")).json()["rows"] == []


@pytest.mark.parametrize("link", LINKS.values())
async def test_the_links_of_the_sidebar_work(operator: Any, link: str) -> None:
    table, _, query = link.removeprefix("#/").partition("/?")
    assert (await operator.get(f"/admin/api/tables/{table}/?{query}")).status_code == 200


async def test_portraits_are_shown_to_operators_only(
    operator: httpx.AsyncClient, alice: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await give_portrait(await character(alice))
    row = (await operator.get("/admin/api/tables/characters/")).json()["rows"][0]
    path = f"/admin/api/pictures/{row['portrait']}"
    assert (await operator.get(path)).headers["content-type"] == "image/webp"
    assert (await operator.get(path[:-1])).status_code == 404
    assert {(await each.get(path)).status_code for each in (stranger, alice)} == {401}
    assert (await stranger.get("/admin/pictures.js")).headers["content-type"].startswith("text/javascript")


async def test_rows_are_shown_by_name(operator: httpx.AsyncClient, alice: httpx.AsyncClient) -> None:
    await a_row_everywhere(alice)
    mira = (await operator.get("/admin/api/tables/characters/?__readable=true&__order=created_at")).json()["rows"][0]
    assert (mira["owner_readable"], mira["template_readable"]) == ("alice", "Fighter")
    tie = (await operator.get("/admin/api/tables/relationships/?__readable=true")).json()["rows"][0]
    assert (tie["source_readable"], tie["target_readable"]) == ("Mira", "Odon")


@pytest.mark.parametrize(("name", "secret"), SECRETS)
async def test_a_secret_is_neither_shown_nor_searchable(
    operator: httpx.AsyncClient, alice: httpx.AsyncClient, name: str, secret: str
) -> None:
    await a_second_factor()
    path = f"/admin/api/tables/{name}/"
    for query in ("", f"?__visible_fields={secret}", f"?__visible_fields=id,{secret}"):
        rows = (await operator.get(path + query)).json()["rows"]
        assert rows
        assert all(row[secret] is None for row in rows)
    row = (await operator.get(f"{path}?__order=id")).json()["rows"][0]
    assert (await operator.get(f"{path}{row['id']}/")).json()[secret] is None
    assert not (await operator.get(f"{path}new/")).json().get(secret)
    for query in (
        f"__order={secret}",
        f"__order=-{secret}",
        f"__order=id,{secret}",
        f"__order=id&__order={secret}",
        f"__order[]={secret}",
        f"__order[][]={secret}",
        f"{secret}=a",
        f"{secret}[]=a",
        f"{secret}=a&{secret}__match=starts",
        f"{secret}__operator=not_null",
    ):
        assert (await operator.get(f"{path}?{query}")).status_code == 400, query
        assert (await operator.get(f"{path}count/?{query}")).json()["count"] == 0, query
    schema = (await operator.get(f"{path}schema/")).json()["extra"]
    assert secret not in {*schema["visible_column_names"], *schema["visible_filter_names"]}


async def test_a_secret_is_not_shown_through_a_join(operator: httpx.AsyncClient, alice: httpx.AsyncClient) -> None:
    for query in ("__visible_fields=user.password_hash", "__order=user.password_hash", "user.password_hash=a"):
        assert (await operator.get(f"/admin/api/tables/tokens/?{query}")).status_code == 400


async def test_only_operators_with_a_csrf_token_suspend_users(
    app: Any, operator: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    path = "/admin/api/forms/suspend-a-member/"
    async with browser(app) as stranger:
        assert (
            await stranger.post(path, json={"member": "alice", "reason": "Spam.", "confirm": True})
        ).status_code == 401
    del operator.headers["X-CSRFToken"]
    assert (await operator.post(path, json={"member": "alice", "reason": "Spam.", "confirm": True})).status_code == 403
    assert (await alice.get("/v1/users/me")).status_code == 200


def test_the_first_request_imports_the_site_and_in_production_every_cookie_needs_https() -> None:
    ask = (
        "import asyncio, httpx, sys; from service.app import app\n"
        "print(sorted({'fastapi', 'piccolo_admin'} & sys.modules.keys()))\n"
        "client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url='https://api.example.org')\n"
        "print(asyncio.run(client.get('/admin/')).headers['set-cookie'])"
    )
    production = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": "postgresql://nobody@localhost/nothing",
        "ALLOWED_HOSTS": "*.example.org",
        "SECRET_KEY": "0123456789abcdef" * 2,
    }
    told = subprocess.run([sys.executable, "-c", ask], env=os.environ | production, capture_output=True, text=True)
    assert told.stdout.startswith("[]\n"), told.stdout + told.stderr  # FastAPI would delay the start
    assert "csrftoken=" in told.stdout, told.stderr
    assert told.stdout.strip().endswith("; Secure")
