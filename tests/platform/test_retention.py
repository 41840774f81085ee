"""What a request leaves in memory: nothing that holds the request itself, and with it its body."""

import asyncio
import gc
from typing import Any

from httpx import AsyncClient as Client


def _kept() -> list[str]:
    """The requests whose ASGI scopes are in memory."""
    loop: Any = asyncio.get_running_loop()
    loop._scheduled[:] = sorted(
        timer for timer in loop._scheduled if not timer.cancelled()
    )  # uvloop keeps none of them
    gc.collect()
    scopes = [each for each in gc.get_objects() if type(each) is dict and "asgi" in each and "headers" in each]
    return [f"{scope['method']} {scope['path']}" for scope in scopes if isinstance(scope.get("method"), str)]


async def test_no_request_is_kept_after_its_response(alice: Client) -> None:
    async def send(method: str, path: str, **request: Any) -> Any:
        answer = await alice.request(method, path, **request)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def apart(method: str, path: str, **request: Any) -> Any:
        """As a server does it: in a task, and so in a context of its own."""
        return await asyncio.create_task(send(method, path, **request))

    character = await apart("POST", "/v1/characters", json={"name": "Mira", "description": "d" * 50_000})
    path = f"/v1/characters/{character['id']}"
    await asyncio.gather(
        apart("PATCH", path, json={"description": "e" * 50_000}),
        apart("GET", path),
        apart("GET", "/v1/characters?q=mira&owner=me"),
        apart("GET", "/v1/characters?sort=-updated_at"),
        apart("GET", "/v1/changes"),
        apart("GET", f"{path}/card"),
        apart("GET", "/v1/templates"),
        apart("GET", "/v1/users/me"),
    )
    assert set(_kept()) <= {"POST /v1/sessions"}  # the fixture's sign-in ran in the context of this test
