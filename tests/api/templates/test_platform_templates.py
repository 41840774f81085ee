"""The platform's own templates have no owner. Each list, count, filter and copy shows them to every caller."""

from typing import Any

import httpx
import pytest

from service.identifiers import uuid7
from service.templates.tables import Template, TemplateVersion
from service.web.query import query_of
from tests.conftest import character, create, template
from tests.support.routes import HANDLERS

SCHEMA = '{"type": "object", "properties": {"rank": {"type": "integer", "default": 1}}}'


async def platform_template(**given: Any) -> str:
    """A template without an owner, as the seeds insert them."""
    template_id = uuid7()
    columns: dict[str, Any] = {"name": "Captain", "visibility": "public", "style": "vintage", "tags": ["sea"]} | given
    await Template.insert(Template(id=template_id, **columns))
    version = TemplateVersion(id=uuid7(), template=template_id, number=1, prompt="{name}", attribute_schema=SCHEMA)
    version.published_at = version.created_at
    await TemplateVersion.insert(version)
    return str(template_id)


@pytest.fixture(params=["stranger", "charlie"])
async def reader(request: pytest.FixtureRequest, stranger: httpx.AsyncClient, charlie: httpx.AsyncClient) -> Any:
    return stranger if request.param == "stranger" else charlie


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"Captain", "Alice's"}),
        ("owner=platform", {"Captain"}),
        ("owner=alice", {"Alice's"}),
        ("owner=nobody", set()),
        ("style=vintage", {"Captain"}),
        ("tags=sea", {"Captain"}),
        ("tags.any=sea,land", {"Captain"}),
        ("visibility=public", {"Captain", "Alice's"}),
        ("sort=name", {"Captain", "Alice's"}),
        ("count=exact", {"Captain", "Alice's"}),
        ("expand=owner", {"Captain", "Alice's"}),
        ("fields=name,owner&owner=platform", {"Captain"}),
    ],
)
async def test_lists_show_the_platforms_public_templates(
    reader: httpx.AsyncClient, alice: httpx.AsyncClient, query: str, expected: set[str]
) -> None:
    await platform_template()
    await platform_template(name="Hidden", visibility="private")
    await platform_template(name="Unlisted", visibility="unlisted")
    await template(alice, name="Alice's", visibility="public")
    await template(alice, name="Alice's draft")
    page = await reader.get(f"/v1/templates?{query}")
    assert page.status_code == 200, page.text
    names = [item["name"] for item in page.json()["items"]]
    assert sorted(names) == sorted(expected)
    if "count" in query:
        assert page.json()["total"] == len(expected)


async def test_all_pages_together_are_complete(stranger: httpx.AsyncClient) -> None:
    ids = {await platform_template(name=f"Captain {number}") for number in range(3)}
    path, seen = "/v1/templates?limit=1", []
    while path:
        page = await stranger.get(path)
        seen += [item["id"] for item in page.json()["items"]]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert sorted(seen) == sorted(ids)


async def test_each_path_below_a_platform_template_is_public(reader: httpx.AsyncClient) -> None:
    template_id = await platform_template()
    hidden = await platform_template(visibility="private")
    for path in ("", "/versions", "/versions/1", "/versions/1/schema", "/versions/1/changes", "/usage"):
        assert (await reader.get(f"/v1/templates/{template_id}{path}")).status_code == 200, path
        assert (await reader.get(f"/v1/templates/{hidden}{path}")).status_code == 404, path
    assert (await reader.get(f"/v1/templates/{template_id}")).json()["owner"] is None


async def test_characters_use_platform_templates_and_are_counted(
    stranger: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    template_id = await platform_template()
    mira = await character(alice, template=template_id, visibility="public")
    assert mira["attributes"] == {"rank": 1}
    shown = (await stranger.get(f"/v1/characters/{mira['id']}?expand=template,owner")).json()
    assert shown["template"]["name"] == "Captain"
    assert (await stranger.get(f"/v1/templates/{template_id}/usage")).json()["characters"] == 1
    assert [item["id"] for item in (await stranger.get("/v1/characters?count=exact")).json()["items"]] == [mira["id"]]
    assert (await stranger.get("/v1/characters?owner=platform")).json()["items"] == []


async def test_users_copy_platform_templates_but_do_not_change_them(alice: httpx.AsyncClient) -> None:
    template_id = await platform_template()
    copy = await create(alice, f"/v1/templates/{template_id}/copies")
    assert (copy["owner"]["username"], copy["visibility"], copy["forked_from"]) == ("alice", "private", template_id)
    assert (await alice.patch(f"/v1/templates/{template_id}", json={"name": "Mine"})).status_code == 403
    assert (await alice.delete(f"/v1/templates/{template_id}")).status_code == 403


LISTS_WITH_OWNERS = {
    route.removeprefix("GET ") for route, handler in HANDLERS.items() if "owner" in query_of(handler).__struct_fields__
}


@pytest.mark.parametrize("more", ["", "&count=exact", "&q=captain&limit=1", "&fields=name", "&expand=owner&sort=name"])
async def test_an_anonymous_caller_cannot_list_their_own(stranger: httpx.AsyncClient, more: str) -> None:
    assert {"/v1/templates", "/v1/characters"} <= LISTS_WITH_OWNERS
    for path in LISTS_WITH_OWNERS:
        answer = await stranger.get(f"{path}?owner=me{more}")
        assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer"), path
        assert (await stranger.get(f"{path}?owner=platform{more}")).status_code == 200, path
