from litestar import Controller, delete, put
from litestar.params import JSONBody

from service.accounts import queries
from service.accounts.schemas import AccountDelete, PasswordUpdate
from service.callers import CurrentUser, requires_session
from service.limits import SIGN_IN
from service.tokens.authentication import forget_tokens


class AccountController(Controller):
    path = "/users/me"
    tags = ("Users",)
    guards = (requires_session,)

    @put("/password", status_code=204, middleware=[SIGN_IN.middleware])
    async def update_password(self, user: CurrentUser, data: JSONBody[PasswordUpdate]) -> None:
        """Change your password; your other sessions end."""
        await queries.update_password(user, data)
        forget_tokens()

    @delete("/", middleware=[SIGN_IN.middleware])
    async def delete_account(self, user: CurrentUser, data: JSONBody[AccountDelete]) -> None:
        """Leave: nobody can sign in any more, and 30 days later the account is gone."""
        await queries.delete_account(user, data.password)
        forget_tokens()
