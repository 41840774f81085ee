"""What is shown to whom changes with its visibility."""

import httpx

from tests.contracts.test_routes import belongings

Client = httpx.AsyncClient


async def test_what_is_unlisted_is_found_by_its_id_alone(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "unlisted")
    for thing in ("character", "template"):
        assert (await charlie.get(f"/v1/{thing}s/{ids[f'{thing}_id']}")).status_code == 200
        assert (await charlie.patch(f"/v1/{thing}s/{ids[f'{thing}_id']}", json={})).status_code == 403
        for query in ("", "?owner=alice"):
            assert (await charlie.get(f"/v1/{thing}s{query}")).json()["items"] == []


async def test_what_becomes_private_is_gone_for_the_others(alice: Client, charlie: Client) -> None:
    ids = await belongings(alice, "public")
    path = f"/v1/characters/{ids['character_id']}"
    assert (await charlie.get(path)).status_code == 200
    await alice.patch(path, json={"visibility": "private"})
    assert (await charlie.get(path)).status_code == 404
    assert (await charlie.get(f"/v1/relationships/{ids['relationship_id']}")).status_code == 404
