"""A change of visibility changes what lists show to each caller."""

import httpx

from tests.contracts.test_routes import belongings

Client = httpx.AsyncClient


async def test_an_unlisted_character_is_found_by_its_id_only(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "unlisted")
    for thing in ("character", "template"):
        assert (await charlie.get(f"/v1/{thing}s/{ids[f'{thing}_id']}")).status_code == 200
        assert (await charlie.patch(f"/v1/{thing}s/{ids[f'{thing}_id']}", json={})).status_code == 403
        for query in ("", "?owner=alice"):
            assert (await charlie.get(f"/v1/{thing}s{query}")).json()["items"] == []


async def test_a_character_that_becomes_private_is_hidden_from_others(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "public")
    path = f"/v1/characters/{ids['character_id']}"
    assert (await charlie.get(path)).status_code == 200
    await alice.patch(path, json={"visibility": "private"})
    assert (await charlie.get(path)).status_code == 404
    assert (await charlie.get(f"/v1/relationships/{ids['relationship_id']}")).status_code == 404
