"""What the pages of rows show besides their columns, and the names and states of rows in lists."""

from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, browser, character, create, template
from tests.support.pictures import give_portrait

Client = httpx.AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def sections(operator: Client, table: str, row: str) -> dict[str, Any]:
    answer = await operator.get(f"/admin/api/details/{table}/{row}")
    assert answer.status_code == 200
    return {each["title"]: each for each in answer.json()["sections"]}


async def newest(operator: Client, table: str) -> dict[str, Any]:
    return (await operator.get(f"/admin/api/tables/{table}/?__order=-id")).json()["rows"][0]


async def test_a_revision_shows_what_it_changed(operator: Client, alice: Client) -> None:
    mira = await character(alice, attributes={"strength": 3, "home": {"town": "Saltmere", "street": "Quay"}}, tags=[])
    path = f"/v1/characters/{mira['id']}"
    change = {"name": "Mirabel", "attributes": {"strength": None, "home": {"street": "Fog Lane"}}}
    assert (await alice.patch(path, json=change)).status_code == 200
    revision = (await newest(operator, "revisions"))["id"]
    assert (
        await alice.patch(path, json={"name": "Mirabelle", "attributes": {"home": {"town": "A"}}})
    ).status_code == 200
    shown = await sections(operator, "revisions", revision)
    assert shown["Changes of revision 2 since revision 1"]["rows"] == [
        ["attributes / home / street", "Quay", "Fog Lane"],
        ["attributes / strength", "3", "—"],
        ["name", mira["name"], "Mirabel"],
    ]
    assert (await alice.delete(path)).status_code == 204
    trashed = await sections(operator, "revisions", (await newest(operator, "revisions"))["id"])
    ((field, before, after),) = trashed["Changes of revision 4 since revision 3"]["rows"]
    assert (field, before) == ("deleted_at", "—")
    assert after.endswith(" UTC")
    assert after.count(":") == 2


@pytest.mark.parametrize(
    ("name", "members", "rows", "note"),
    [
        ("K", 300, 200, "The first 200 of 300 differences."),
        ("K", 1_001, 200, "The first 200 of more than 1000 differences."),
        ("K" * 128 * 1024, 1_000, 2, "The first 2 of more than 2 differences."),
    ],
    ids=["some", "many", "long name"],
)
async def test_the_differences_of_a_revision_are_bounded(
    operator: Client, alice: Client, name: str, members: int, rows: int, note: str
) -> None:
    mira = await character(alice)
    for value in (1, 2):
        body = {"extensions": {"of": {name: dict.fromkeys(map(str, range(members)), value)}}}
        assert (await alice.patch(f"/v1/characters/{mira['id']}", json=body)).status_code == 200
    shown = await sections(operator, "revisions", (await newest(operator, "revisions"))["id"])
    section = shown["Changes of revision 3 since revision 2"]
    assert (len(section["rows"]), section["note"]) == (rows, note)


async def test_a_character_shows_its_portrait_revisions_and_relationships(operator: Client, alice: Client) -> None:
    mira, odo = await character(alice), await character(alice, name="Odo")
    await create(alice, f"/v1/characters/{mira['id']}/relationships", target=odo["id"], type="mentor_of")
    await give_portrait(mira)
    assert (await alice.patch(f"/v1/characters/{odo['id']}", json={"name": "Odon"})).status_code == 200
    shown = await sections(operator, "characters", mira["id"])
    picture = await operator.get(f"/admin/api/pictures/{shown['Portrait']['picture']}?size=256")
    assert picture.headers["content-type"] == "image/webp"
    ((source, kind, target),) = shown["Newest relationships"]["rows"]
    assert (source["text"], kind["text"], target["text"]) == (mira["name"], "mentor_of", "Odon")
    assert target["link"] == f"#/characters/{odo['id']}/"
    ((number, at, changed),) = (await sections(operator, "characters", odo["id"]))["Newest revisions"]["rows"]
    assert (number["text"], changed) == ("2", "name")
    assert at.endswith(" UTC")
    for each in shown["More"]["links"]:
        table, _, query = each["link"].removeprefix("#/").partition("/")
        assert (await operator.get(f"/admin/api/tables/{table}/{query}")).status_code == 200


async def test_a_template_shows_its_newest_published_version(operator: Client, alice: Client) -> None:
    rules = await template(alice, prompt="The first.")
    path = f"/v1/templates/{rules['id']}/versions"
    draft = {
        "attribute_schema": {"type": "object", "properties": {"zeal": {"type": "string"}}},
        "prompt": "The second.",
    }
    assert (await alice.post(path, json=draft)).status_code == 201
    shown = await sections(operator, "templates", rules["id"])
    assert shown["Prompt of version 1"]["text"] == "The first."
    assert shown["Newest versions"]["rows"][0][1] == "draft"
    assert (await alice.put(f"{path}/2/publication")).status_code < 300
    shown = await sections(operator, "templates", rules["id"])
    assert shown["Prompt of version 2"]["text"] == "The second."
    assert '"zeal"' in shown["Schema of version 2"]["text"]


async def test_rows_have_names_and_states(operator: Client, alice: Client, charlie: Client) -> None:
    mira = await character(alice)
    rules = await template(alice)
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204
    suspend = {"member": "charlie", "reason": "Spam.", "confirm": True}
    assert (await operator.post("/admin/api/forms/suspend-a-member/", json=suspend)).status_code == 200
    entry = next(
        each
        for each in (await operator.get("/admin/api/tables/audit_log/?action=suspend_user&__order=-id")).json()["rows"]
    )
    ids = [mira["id"], rules["id"], entry["row"], "1", "not an id", "00000000-0000-0000-0000-000000000000"]
    names = (await operator.get("/admin/api/names", params={"ids": ",".join(ids)})).json()
    shown = {each["name"]: (each["state"], each["link"]) for each in names.values()}
    assert shown[mira["name"]] == ("in the trash", f"#/characters/{mira['id']}/")
    assert shown["charlie"] == ("suspended", f"#/users/{entry['row']}/")
    assert shown[rules["name"]] == (None, f"#/templates/{rules['id']}/")
    assert (await operator.get("/admin/api/names", params={"ids": ",".join(["1"] * 51)})).status_code == 400
    rows = (await sections(operator, "audit_log", entry["id"]))["Entry"]["rows"]
    assert ["Reason", "Spam."] in rows
    assert ["User", {"id": entry["row"], "text": entry["row"]}] in rows


async def test_the_page_of_an_entry_names_the_rows_in_its_detail(operator: Client) -> None:
    given = {"name": "Bard", "attribute_schema": '{"type": "object"}', "reason": "A test.", "confirm": True}
    assert (await operator.post("/admin/api/forms/create-a-template/", json=given)).status_code == 200
    given = given | {"template": (await newest(operator, "templates"))["id"]}
    del given["name"]
    assert (await operator.post("/admin/api/forms/new-template-version/", json=given)).status_code == 200
    entry, version = await newest(operator, "audit_log"), (await newest(operator, "template_versions"))["id"]
    rows = (await sections(operator, "audit_log", entry["id"]))["Entry"]["rows"]
    assert ["Version", {"id": version, "text": version}] in rows
    assert ["Number", "2"] in rows
    named = (await operator.get("/admin/api/names", params={"ids": version})).json()[version]
    assert named == {"name": "Version 2", "state": "draft", "link": f"#/template_versions/{version}/"}


async def test_details_of_nothing_are_empty_and_strangers_get_none(
    app: Any, operator: Client, alice: Client, stranger: Client
) -> None:
    for row in ("00000000-0000-0000-0000-000000000000", "1", "%20"):
        for table in ("audit_log", "characters", "revisions", "templates", "files", "nothing"):
            assert await sections(operator, table, row) == {}
    async with browser(app) as unknown:
        for client in (unknown, alice, stranger):
            for path in ("/admin/api/names?ids=1", "/admin/api/details/users/1"):
                assert (await client.get(path)).status_code == 401
    assert (await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})).status_code == 204
