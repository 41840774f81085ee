"""GET /v1/tokens/current: who am I?"""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.conftest import PASSWORD, client, create

Client = httpx.AsyncClient
ALL = ["characters:read", "characters:write", "templates:read", "templates:write"]


async def test_a_session_is_told_its_user_and_its_end(alice: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    token = (await alice.get("/v1/tokens/current")).json()
    (session,) = (await alice.get("/v1/sessions")).json()["items"]
    assert token == {
        "id": session["id"],
        "kind": "session",
        "user": {"id": me["id"], "username": "alice"},
        "scopes": ALL,
        "expires_at": session["expires_at"],
    }


async def test_a_key_is_told_its_scopes(app: Any, alice: Client) -> None:
    end = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    for expires_at in (None, end.isoformat().replace("+00:00", "Z")):
        body = {"name": "p", "scopes": ["templates:read"], "current_password": PASSWORD, "expires_at": expires_at}
        key = await create(alice, "/v1/api-keys", **body)
        async with client(app, Authorization=f"Bearer {key['token']}") as program:
            token = (await program.get("/v1/tokens/current")).json()
        assert (token["id"], token["kind"], token["scopes"]) == (key["id"], "api_key", ["templates:read"])
        assert (token["expires_at"], token["user"]["username"]) == (expires_at, "alice")


async def test_without_a_token_there_is_none(stranger: Client) -> None:
    assert (await stranger.get("/v1/tokens/current")).status_code == 401
