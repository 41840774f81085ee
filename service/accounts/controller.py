from collections.abc import AsyncGenerator

from litestar import Controller
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from litestar.response import Stream

from service.accounts import queries
from service.accounts.schemas import AccountDelete, PasswordUpdate
from service.callers import CurrentUser, requires_session
from service.letters.queries import announce_letters
from service.limits import SIGN_IN
from service.routes import delete, get, put
from service.tokens.authentication import forget_tokens

NDJSON = "application/x-ndjson"


class AccountController(Controller):
    path = "/users/me"
    tags = ("Users",)
    guards = (requires_session,)

    @put("/password", status_code=204, middleware=[SIGN_IN.middleware])
    async def update_password(self, user: CurrentUser, data: JSONBody[PasswordUpdate]) -> None:
        """Change your password; your other sessions end."""
        await queries.update_password(user, data)
        forget_tokens()
        announce_letters()

    @get("/export", media_type=NDJSON)
    async def export_account(self, user: CurrentUser) -> Stream:
        """Everything you own, one JSON object a line; `kind` says what it is."""
        pieces = await queries.export_account(user)
        headers = {"Content-Disposition": 'attachment; filename="export.ndjson"'}
        return Stream(pieces, media_type=NDJSON, headers=headers, background=BackgroundTask(_close, pieces))

    @delete("/", middleware=[SIGN_IN.middleware])
    async def delete_account(self, user: CurrentUser, data: JSONBody[AccountDelete]) -> None:
        """Leave: nobody can sign in any more, and 30 days later the account is gone."""
        await queries.delete_account(user, data.password)
        forget_tokens()


async def _close(pieces: AsyncGenerator[bytes, None]) -> None:
    """Also when the client went away, which leaves them half read."""
    await pieces.aclose()
