"""Characters: making, reading, changing and deleting them."""

import httpx

Client = httpx.AsyncClient


async def test_create_answers_the_same_bytes_as_get(alice: Client) -> None:
    made = await alice.post("/v1/characters", json={"name": "Mira", "tags": ["night"], "attributes": {"hp": 3}})
    assert made.status_code == 201
    read = await alice.get(made.headers["location"])
    assert read.content == made.content
    assert read.headers["etag"] == made.headers["etag"] == f'"{made.json()["id"]}-1"'
