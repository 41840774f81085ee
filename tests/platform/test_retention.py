"""What a request leaves in memory: nothing that holds the request itself, and with it its body."""

import asyncio
import gc
from collections import Counter
from typing import Any

import pytest
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

    before = Counter(_kept())  # of the fixtures, and of tests that failed
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
    for _ in range(20):  # a task that several requests shared may end a little later
        if not (left := Counter(_kept()) - before):
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"Still in memory after a second: {left}.")
