"""The requests of the soak, in the proportions of real use, each with a check of its answer."""

import asyncio
import io
import json
import uuid
import zipfile
from collections.abc import Awaitable, Callable

from PIL import Image

from benchmarks.soak_members import Member, Wrong, expect
from tests.support.cards import ICON, ICON_ASSET, V3_DATA, in_charx, in_json, in_png

FEWEST, MOST = 8, 20  # characters of a member, so that the tables do not grow
PAGES = 5  # that a visitor reads of the public list
HELD = 20.0  # seconds that a stream of changes stays open

Step = Callable[[Member], Awaitable[None]]


async def sign_in(member: Member) -> None:
    if len(member.sessions) > 3:
        await sign_out(member)
        return
    member.sessions.append(await member.sign_in())


async def sign_out(member: Member) -> None:
    if not member.sessions:
        await sign_in(member)
        return
    await member.send("DELETE", "/sessions/current", 204, member.sessions.pop(0))


async def ask_for_mail(member: Member) -> None:
    await member.send("POST", "/password-resets", 202, "", json={"email": f"{member.name}@example.org"})


async def list_public(member: Member) -> None:
    number, cursor, before = member.page
    page = (await member.send("GET", "/characters", 200, "", params={"cursor": cursor} if cursor else {})).json()
    ids = {item["id"] for item in page["items"]}
    expect(len(ids) == 20, f"a page of {len(page['items'])} characters")
    expect(not ids & before, "a page repeats characters of the page before")
    member.page = (number + 1, page["next_cursor"], ids) if number < PAGES else (0, "", set())


async def list_own(member: Member) -> None:
    async with member.one() as character:
        page = (await member.send("GET", "/characters", 200, params={"owner": "me", "limit": 100})).json()
        versions = {item["id"]: item["version"] for item in page["items"]}
        expect(versions.get(character["id"]) == character["version"], f"the list lacks {character['id']}")


async def read(member: Member) -> None:
    async with member.one() as character:
        answer = await member.send("GET", f"/characters/{character['id']}", 200)
        expect(answer.json() == character, f"{answer.text[:300]} instead of {character}")


async def search_own(member: Member) -> None:
    async with member.one() as character:
        query = {"q": character["description"].split()[-1], "owner": "me"}
        page = (await member.send("GET", "/characters", 200, params=query)).json()
        expect([each["id"] for each in page["items"]] == [character["id"]], f"{query} finds {page['items']}")


async def search_public(member: Member) -> None:
    query = {"q": member.chance.choice(("observatory", "reactor", "photographs", "harbour"))}
    page = (await member.send("GET", "/characters", 200, "", params=query)).json()
    expect(bool(page["items"]), f"{query} finds nothing")


async def create(member: Member) -> None:
    if len(member.idle) >= MOST:
        await delete(member)
        return
    body = {
        "name": f"Mira {member.word()}",
        "description": f"Repairs clocks on the slow train. {member.word()}",
        "tags": member.chance.sample(("night", "rain", "sea", "noir", "music"), 2),
        "visibility": member.chance.choice(("private", "unlisted", "public")),
    }
    once = {"Idempotency-Key": uuid.uuid4().hex} if member.chance.random() < 0.5 else {}
    created = (await member.send("POST", "/characters", 201, json=body, headers=once)).json()
    expect(body == {name: created[name] for name in body}, f"{created} instead of {body}")
    member.idle.append(created)


async def patch(member: Member) -> None:
    async with member.one() as character:
        body = {"description": f"Changed at {member.counts['requests']}. {member.word()}"}
        if_match = {"If-Match": f'"{character["id"]}-{character["version"]}"'}
        path = f"/characters/{character['id']}"
        changed = (await member.send("PATCH", path, 200, json=body, headers=if_match)).json()
        expect(changed["description"] == body["description"], f"{changed} instead of {body}")
        expect(changed["version"] == character["version"] + 1, f"version {changed['version']} of {character}")
        character.update(changed)


async def export_card(member: Member) -> None:
    async with member.one() as character:
        kind = member.chance.choice(("json", "png", "charx"))
        card = (await member.send("GET", f"/characters/{character['id']}/card", 200, params={"format": kind})).content
        if kind == "png":
            Image.open(io.BytesIO(card)).verify()
            return
        if kind == "charx":
            with zipfile.ZipFile(io.BytesIO(card)) as archive:
                expect(archive.testzip() is None, "a damaged archive")
                card = archive.read("card.json")
        expect(json.loads(card)["data"]["name"] == character["name"], f"a card of another than {character['name']}")


async def import_card(member: Member) -> None:
    if len(member.idle) >= MOST:
        await delete(member)
        return
    data = V3_DATA | {"name": f"Ines {member.word()}", "description": f"A card. {member.word()}"}
    card = {"spec": "chara_card_v3", "spec_version": "3.0", "data": data}
    picture = member.chance.choice(member.pictures[::4])  # those that are PNG
    kind = member.chance.choice(("json", "png", "charx"))
    content = in_json(card) if kind == "json" else in_png(picture, ccv3=card)
    if kind == "charx":
        content = in_charx(card | {"data": data | {"assets": [ICON_ASSET]}}, **{ICON: picture})
    answer = await member.send("POST", "/imports", 200, files=[("file", (f"ines.{kind}", content))])
    (item,) = answer.json()["items"]
    expect(item["status"] == 201, f"an import: {item}")
    path = f"/characters/{item['character']['id']}"
    created = (await member.send("GET", path, 200)).json()
    expect((created["name"], created["portrait"] is None) == (data["name"], kind == "json"), f"an import: {created}")
    member.idle.append(created)


async def upload_portrait(member: Member) -> None:
    async with member.one() as character:
        path = f"/characters/{character['id']}/portrait"
        picture = member.chance.choice(member.pictures)
        await member.send("PUT", path, 200, content=picture, headers={"Content-Type": "image/jpeg"})
        small = await member.send("GET", path, 200, params={"size": "256"})
        expect(Image.open(io.BytesIO(small.content)).size == (256, 171), "a portrait of another size")
        character.update((await member.send("GET", f"/characters/{character['id']}", 200)).json())


async def read_changes(member: Member) -> None:
    await member.read_feed()


async def stream_changes(member: Member) -> None:
    headers = {"Authorization": f"Bearer {member.token}", "Accept": "text/event-stream"}
    place = {"after": member.cursor} if member.cursor else {}
    async with member.client.stream("GET", "/v1/changes", headers=headers, params=place) as answer:
        member.counts["requests"] += 1
        expect(answer.status_code == 200, f"a stream: {answer.status_code}")
        lines, complete = answer.aiter_lines(), False
        try:
            async with asyncio.timeout(HELD):
                async for line in lines:
                    complete = complete or line == "event: complete"
        except TimeoutError:
            expect(complete, "a stream did not become complete")
            return
        raise Wrong("a stream ended")


async def delete(member: Member) -> None:
    if len(member.idle) <= FEWEST:
        await create(member)
        return
    gone = member.idle.pop(member.chance.randrange(len(member.idle)))["id"]
    await member.send("DELETE", f"/characters/{gone}", 204)
    member.trash.append(gone)


async def restore(member: Member) -> None:
    if member.trash:
        back = member.trash.pop(0)
        member.idle.append((await member.send("POST", f"/trash/{back}/restorations", 201)).json())


async def purge(member: Member) -> None:
    if not member.trash:
        await delete(member)
        return
    gone = member.trash.pop(0)
    await member.send("DELETE", f"/trash/{gone}", 204)
    await member.send("GET", f"/characters/{gone}", 404)
    member.purged.append(gone)


STEPS: dict[Step, float] = {  # shares of all requests, in percent
    read: 23.5,
    list_public: 14,
    patch: 12,
    list_own: 8,
    read_changes: 8,
    search_own: 5,
    search_public: 3,
    create: 6,
    export_card: 5,
    delete: 4,
    purge: 4,
    import_card: 2,
    upload_portrait: 2,
    sign_in: 1,
    sign_out: 1,
    ask_for_mail: 0.5,
    restore: 0.6,
    stream_changes: 0.4,
}
