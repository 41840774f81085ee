from collections.abc import Awaitable
from typing import Any

from litestar import Controller, Request
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from service.limits.rate_limits import MAIL, NEW_EMAIL, SIGN_UP
from service.mail.outbox import wake_worker
from service.users import queries
from service.users.schemas import Me, Profile, UserCreate, UserUpdate
from service.web.guards import CurrentUser, requires_session
from service.web.middleware.rate_limit import count_request
from service.web.requests import IfMatch
from service.web.responses import Rendered, resource
from service.web.routes import get, patch, post


def _current(request: Request[Any, Any, Any]) -> Awaitable[Any]:
    return queries.get_me(request.user)


class UserController(Controller):
    path = "/users"
    tags = ("Users",)

    @post("/", public=True)
    async def create_user(self, request: Request[Any, Any, Any], data: JSONBody[UserCreate]) -> Rendered[Me]:
        """Sign up.

        An e-mail address or a username that is already in use is refused with 409. Case makes no difference.
        A form that is refused with 400 or 422 does not count as a sign-up.
        """
        await queries.check_sign_up(data)
        await count_request(SIGN_UP, request.scope)
        row = await queries.create_user(data)
        wake_worker()
        return resource(row, created_at="/v1/users/me")

    @get("/me", guards=[requires_session])
    async def get_me(self, user: CurrentUser) -> Rendered[Me]:
        """Get your own account."""
        return resource(await queries.get_me(user))

    @patch("/me", guards=[requires_session], current=_current)
    async def update_me(
        self, request: Request[Any, Any, Any], user: CurrentUser, data: JSONBody[UserUpdate], if_match: IfMatch = None
    ) -> Rendered[Me]:
        """Update your account.

        A new e-mail address requires `current_password`. A wrong one is refused with 403. It is also refused if a reset
        replaces the password while the request is running. A taken address answers 409. Requests with `email` are
        limited as sign-ups and e-mails are. An account that was read can be sent back: read-only fields are ignored if
        they have not changed, and so is the same `email` without a password.
        """
        data = await queries.without_same_email(user, data)
        if data.email is not UNSET:  # as a sign-up, it sends a message and tells whether an address is taken
            for limit in (SIGN_UP, MAIL, NEW_EMAIL):
                await count_request(limit, request.scope)
        row = await queries.update_me(user, data, if_match)
        wake_worker()
        return resource(row)

    @get("/{username:str}", public=True)
    async def get_user(self, username: FromPath[str]) -> Rendered[Profile]:
        """Get a user's public profile.

        `username` is a username, in upper or lower case, or the user's `id`.
        """
        return Rendered((await queries.get_user(username))["item"])
