from litestar import Controller, MediaType
from litestar.params import FromPath, JSONBody

from service.callers import requires_session
from service.emails import queries
from service.emails.schemas import LetterRequest, PasswordReset
from service.letters.queries import announce_letters
from service.limits import LETTERS, SIGN_IN
from service.routes import post, put
from service.tokens.authentication import forget_tokens


class EmailVerificationController(Controller):
    path = "/email-verifications"
    tags = ("E-mail",)
    guards = (requires_session,)

    @post("/", public=True, status_code=202, media_type=MediaType.TEXT, middleware=[LETTERS.middleware])
    async def request_email_verification(self, data: JSONBody[LetterRequest]) -> None:
        """Ask for a letter that verifies an address; one is sent at sign-up, too."""
        await queries.request_letter("verification", data.email)
        announce_letters()

    @put("/{token:str}", public=True, status_code=204, middleware=[SIGN_IN.middleware])
    async def verify_email(self, token: FromPath[str]) -> None:
        """Verify the address that the letter came to."""
        await queries.verify_email(token)


class PasswordResetController(Controller):
    path = "/password-resets"
    tags = ("E-mail",)
    guards = (requires_session,)

    @post("/", public=True, status_code=202, media_type=MediaType.TEXT, middleware=[LETTERS.middleware])
    async def request_password_reset(self, data: JSONBody[LetterRequest]) -> None:
        """Ask for a letter that lets you choose a new password."""
        await queries.request_letter("reset", data.email)
        announce_letters()

    @put("/{token:str}", public=True, status_code=204, middleware=[SIGN_IN.middleware])
    async def reset_password(self, token: FromPath[str], data: JSONBody[PasswordReset]) -> None:
        """Choose a new password with the token of the letter; all your sessions end."""
        await queries.reset_password(token, data.password)
        forget_tokens()
        announce_letters()
