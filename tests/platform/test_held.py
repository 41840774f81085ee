"""No slow work and no second connection while a connection is held."""

import asyncio
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from service.admin.operators import Operator
from service.cards.drawing import render_picture
from service.cards.imports.queries import store_card
from service.commands.collect_files import delete_unused_files
from service.database.engine import DB
from service.database.held import ConnectionHeld, check_no_connection
from service.exports import queries as exports
from service.mail import smtp
from service.media.images.workers import clean
from service.media.queries import get_past_picture, store_file, store_picture
from service.media.storage import STORAGE
from service.settings import Settings
from service.users.passwords import check_password, hash_password, password_matches
from tests.conftest import PASSWORD, character, template
from tests.support.cards import V3, import_files, in_charx, in_json
from tests.support.pictures import draw_picture, in_file

Client = httpx.AsyncClient


async def a_card() -> bytes:
    return in_json(V3)


async def with_a_picture(work: Callable[..., Awaitable[Any]]) -> Any:
    with in_file(draw_picture()) as file:
        return await work(file)


SLOW: dict[str, Callable[[], Awaitable[Any]]] = {
    "write a file": lambda: STORAGE.put("0" * 64, b""),
    "read a file": lambda: STORAGE.get("0" * 64),
    "delete files": lambda: STORAGE.delete(["0" * 64]),
    "link to a file": lambda: STORAGE.link("0" * 64, 60),
    "store a file": lambda: store_file(b"bytes"),
    "store a picture": lambda: with_a_picture(store_picture),
    "decode a picture": lambda: with_a_picture(clean),
    "draw a picture": lambda: render_picture(None, ".png"),
    "read a card": lambda: store_card("mira.json", b"{", a_card, room=2**20, dry_run=True),
    "hash a password": lambda: hash_password(PASSWORD),
    "compare a password": lambda: password_matches(None, PASSWORD),
    "look up a password": lambda: check_password(PASSWORD, (), "/password"),
    "sign an operator in": lambda: Operator.login("nobody", PASSWORD),
    "send mail": lambda: smtp.send(EmailMessage(), "mira@example.org"),
}


@pytest.mark.parametrize("work", SLOW.values(), ids=SLOW.keys())
async def test_slow_work_is_refused_in_a_transaction(app: Any, work: Callable[[], Awaitable[Any]]) -> None:
    async with DB.transaction():
        with pytest.raises(ConnectionHeld):
            await work()


async def test_slow_work_is_refused_in_a_task_that_a_transaction_started(app: Any) -> None:
    async with DB.transaction():
        with pytest.raises(ConnectionHeld):
            await asyncio.create_task(hash_password(PASSWORD))


async def test_nobody_gets_a_second_connection(app: Any) -> None:
    async with DB.connection():
        with pytest.raises(ConnectionHeld):
            async with DB.connection():
                pass
        with pytest.raises(ConnectionHeld):
            async with DB.transaction():
                pass


async def test_it_is_over_when_the_connection_is_free_also_for_a_task_begun_before(app: Any) -> None:
    free = asyncio.Event()

    async def hash_later() -> None:
        await free.wait()
        await hash_password(PASSWORD)

    async with DB.transaction():
        later = asyncio.create_task(hash_later())
    check_no_connection("This")
    free.set()
    await later


@pytest.mark.parametrize("given", [{"params": {"dry_run": "true"}}, {"headers": {"Idempotency-Key": "once"}}, {}])
async def test_imports_hold_no_connection_while_they_read_cards(alice: Client, given: Any) -> None:
    """The slow work is refused otherwise, and the answer is 500."""
    card = in_charx(V3, **{"assets/icon/image/main.png": draw_picture(), "assets/other/a.bin": b"an asset"})
    (item,) = await import_files(alice, card, **given)
    assert (item["status"], item["notes"] is not None) == (201, True)
    assert item["character"]["portrait"]["width"] == 40


@pytest.mark.parametrize("params", [{"dry_run": "true"}, {}])
async def test_portraits_and_avatars_hold_no_connection_while_they_are_decoded(
    alice: Client, params: dict[str, str]
) -> None:
    mira = await character(alice)
    png = {"content": draw_picture(), "headers": {"Content-Type": "image/png"}}
    answer = await alice.put(f"/v1/characters/{mira['id']}/portrait", params=params, **png)
    assert (answer.status_code, answer.json()["portrait"]["width"]) == (200, 40)
    assert (await alice.put("/v1/users/me/avatar", **png)).status_code == 200


async def test_a_new_address_holds_no_row_while_the_password_is_compared(alice: Client) -> None:
    body = {"email": "elsewhere@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/v1/users/me", json=body)).status_code == 200
    wrong = await alice.patch("/v1/users/me", json=body | {"current_password": "not the password"})
    assert wrong.status_code == 403


async def test_a_password_that_changes_while_it_is_compared_confirms_nothing(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def matches_but_is_changed(*_: Any) -> bool:
        await DB._run_in_pool("UPDATE users SET password_hash = 'another'")
        return True

    monkeypatch.setattr("service.users.credentials.password_matches", matches_but_is_changed)
    body = {"email": "elsewhere@example.org", "current_password": PASSWORD}
    assert (await alice.patch("/v1/users/me", json=body)).status_code == 403


async def test_an_export_holds_no_connection_while_its_client_reads(alice: Client) -> None:
    await template(alice)
    me = (await alice.get("/v1/users/me")).json()["id"]
    pieces = await exports.export_account(exports.Caller(id=me))
    async with asyncio.timeout(5):
        while DB.pool is None or DB.idle_connections() < DB.pool.get_size():
            await asyncio.sleep(0.01)
    assert b'"kind":"template"' in b"".join([piece async for piece in pieces])


async def test_cards_of_one_import_are_bounded_together(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cards.imports.queries.MAX_TOGETHER", 10_000)
    large = in_json({**V3, "data": {**V3["data"], "scenario": "x" * 6_000}})
    assert [item["status"] for item in await import_files(alice, large, large, in_json(V3))] == [201, 413, 201]


async def test_a_command_may_delete_files_of_rows_that_it_has_locked(app: Any) -> None:
    await store_file(b"nobody's")
    await DB._run_in_pool("UPDATE files SET stored_at = now() - interval '2 days'")
    assert await delete_unused_files() == 1


async def test_the_links_of_a_bucket_are_checked_too(app: Any) -> None:
    from service.media.storage import Bucket

    bucket = Bucket(Settings(storage_url="s3://bucket", s3_access_key_id="k", s3_secret_access_key="s"))
    for work in (bucket.put("n", b""), bucket.get("n"), bucket.delete(["n"]), bucket.link("n", 60)):
        async with DB.transaction():
            with pytest.raises(ConnectionHeld):
                await work
    assert await get_past_picture((await with_a_picture(store_picture)).name)
