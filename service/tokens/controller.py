from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, HeaderParameter, JSONBody

from service.answers import collection, created
from service.callers import CurrentUser, requires_session
from service.limits import SIGN_IN
from service.routes import Rendered, delete, get, post
from service.schemas import Collection
from service.tokens import queries
from service.tokens.authentication import forget_tokens
from service.tokens.schemas import ApiKey, ApiKeyCreate, ApiKeyCreated, Session, SessionCreate, SessionCreated

UserAgent = Annotated[str, HeaderParameter(name="User-Agent", description="Shown in the list of sessions.")]


class SessionController(Controller):
    path = "/sessions"
    tags = ("Sessions",)
    guards = (requires_session,)

    @post("/", public=True, middleware=[SIGN_IN.middleware])
    async def create_session(
        self, request: Request[Any, Any, Any], data: JSONBody[SessionCreate], user_agent: UserAgent = ""
    ) -> Rendered[SessionCreated]:
        """Sign in with an e-mail address or a username."""
        address = request.client.host if request.client else ""
        session_id, session = await queries.create_session(data, user_agent, address)
        return created(session, f"/v1/sessions/{session_id}")

    @get("/")
    async def list_sessions(self, user: CurrentUser) -> Rendered[Collection[Session]]:
        """Where you are signed in."""
        return collection(await queries.list_sessions(user))

    @delete("/")
    async def delete_sessions(self, user: CurrentUser) -> None:
        """Sign out everywhere, here included; API keys go on."""
        await queries.delete_sessions(user)
        forget_tokens()

    @delete("/current")
    async def delete_current_session(self, user: CurrentUser) -> None:
        """Sign out."""
        await queries.delete_session(user, user.token_id)
        forget_tokens()

    @delete("/{session_id:uuid}")
    async def delete_session(self, user: CurrentUser, session_id: FromPath[UUID]) -> None:
        """Sign out elsewhere."""
        await queries.delete_session(user, session_id)
        forget_tokens()


class ApiKeyController(Controller):
    path = "/api-keys"
    tags = ("API keys",)
    guards = (requires_session,)

    @post("/")
    async def create_api_key(self, user: CurrentUser, data: JSONBody[ApiKeyCreate]) -> Rendered[ApiKeyCreated]:
        """Make a key for a program; its token is told this once."""
        key_id, key = await queries.create_api_key(user, data)
        return created(key, f"/v1/api-keys/{key_id}")

    @get("/")
    async def list_api_keys(self, user: CurrentUser) -> Rendered[Collection[ApiKey]]:
        """Your keys, newest first."""
        return collection(await queries.list_api_keys(user))

    @get("/{key_id:uuid}")
    async def get_api_key(self, user: CurrentUser, key_id: FromPath[UUID]) -> Rendered[ApiKey]:
        """One of your keys."""
        return Rendered((await queries.get_api_key(user, key_id))["item"])

    @delete("/{key_id:uuid}")
    async def delete_api_key(self, user: CurrentUser, key_id: FromPath[UUID]) -> None:
        """Revoke a key."""
        await queries.delete_api_key(user, key_id)
        forget_tokens()
