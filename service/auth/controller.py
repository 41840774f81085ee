from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, HeaderParameter, JSONBody

from service.auth import api_keys, email_links, password, queries
from service.auth.schemas import (
    AccountDelete,
    ApiKey,
    ApiKeyCreate,
    ApiKeyCreated,
    CurrentToken,
    EmailVerification,
    LetterRequest,
    PasswordReset,
    PasswordUpdate,
    Session,
    SessionCreate,
    SessionCreated,
)
from service.auth.token_cache import forget_tokens
from service.limits.rate_limits import MAIL, SIGN_IN
from service.mail.outbox import wake_worker
from service.schemas import Collection
from service.web.guards import CurrentUser, requires_session
from service.web.middleware.rate_limit import RateLimit
from service.web.openapi_content import EmptyOperation
from service.web.responses import Rendered, collection, created
from service.web.routes import delete, get, post, put

UserAgent = Annotated[str, HeaderParameter(name="User-Agent", description="Shown in the list of sessions.")]


class SessionController(Controller):
    path = "/sessions"
    tags = ("Sessions",)
    guards = (requires_session,)

    @post("/", public=True, middleware=[RateLimit(SIGN_IN)])
    async def create_session(
        self, request: Request[Any, Any, Any], data: JSONBody[SessionCreate], user_agent: UserAgent = ""
    ) -> Rendered[SessionCreated]:
        """Sign in with an e-mail address or a username."""
        address = request.client.host if request.client else ""
        session_id, session = await queries.create_session(data, user_agent, address)
        return created(session, f"/v1/sessions/{session_id}")

    @get("/")
    async def list_sessions(self, user: CurrentUser) -> Rendered[Collection[Session]]:
        """List your sessions."""
        return collection(await queries.list_sessions(user))

    @delete("/")
    async def delete_sessions(self, user: CurrentUser) -> None:
        """End all your sessions, including this one.

        API keys stay valid.
        """
        await queries.delete_sessions(user)
        forget_tokens()

    @delete("/current")
    async def delete_current_session(self, user: CurrentUser) -> None:
        """End this session."""
        await queries.delete_session(user, user.token_id)
        forget_tokens()

    @delete("/{session_id:uuid}")
    async def delete_session(self, user: CurrentUser, session_id: FromPath[UUID]) -> None:
        """End one of your sessions."""
        await queries.delete_session(user, session_id)
        forget_tokens()


class ApiKeyController(Controller):
    path = "/api-keys"
    tags = ("API keys",)
    guards = (requires_session,)

    @post("/", middleware=[RateLimit(SIGN_IN)])
    async def create_api_key(self, user: CurrentUser, data: JSONBody[ApiKeyCreate]) -> Rendered[ApiKeyCreated]:
        """Create an API key.

        Only this response contains the token. An e-mail informs you of the new key. A wrong `current_password` is
        refused with 403. It is also refused if a reset replaces the password while the request is running.
        """
        key_id, key = await api_keys.create_api_key(user, data)
        wake_worker()
        return created(key, f"/v1/api-keys/{key_id}")

    @get("/")
    async def list_api_keys(self, user: CurrentUser) -> Rendered[Collection[ApiKey]]:
        """List your API keys, newest first."""
        return collection(await api_keys.list_api_keys(user))

    @get("/{key_id:uuid}")
    async def get_api_key(self, user: CurrentUser, key_id: FromPath[UUID]) -> Rendered[ApiKey]:
        """Get one of your API keys."""
        return Rendered((await api_keys.get_api_key(user, key_id))["item"])

    @delete("/{key_id:uuid}")
    async def delete_api_key(self, user: CurrentUser, key_id: FromPath[UUID]) -> None:
        """Revoke an API key."""
        await api_keys.delete_api_key(user, key_id)
        forget_tokens()


class TokenController(Controller):
    path = "/tokens"
    tags = ("Sessions",)

    @get("/current")
    async def get_current_token(self, user: CurrentUser) -> CurrentToken:
        """Get the token of this request: who am I, and what may I do?

        Works with the token of a session and with every API key.
        """
        return queries.get_current_token(user)


class EmailVerificationController(Controller):
    path = "/email-verifications"
    tags = ("E-mail",)
    guards = (requires_session,)

    @post("/", public=True, status_code=202, operation_class=EmptyOperation, middleware=[RateLimit(MAIL)])
    async def request_email_verification(self, data: JSONBody[LetterRequest]) -> Rendered[None]:
        """Request a verification e-mail.

        One is also sent at sign-up.
        """
        await email_links.request_link("verification", data.email)
        wake_worker()
        return Rendered("", status=202)

    @put("/", public=True, status_code=204, middleware=[RateLimit(SIGN_IN)])
    async def verify_email(self, user: CurrentUser, data: JSONBody[EmailVerification]) -> None:
        """Verify an e-mail address with the token from the e-mail.

        Send a session of the account as the Bearer token, or `current_password`. Without both, or with a wrong
        password, the status is 403 and the token stays valid. If somebody else signed up with your address, reset the
        password instead. The first verification of an address ends all sessions and API keys of the account.
        """
        await email_links.verify_email(user, data.token, data.current_password)
        forget_tokens()


class PasswordResetController(Controller):
    path = "/password-resets"
    tags = ("E-mail",)
    guards = (requires_session,)

    @post("/", public=True, status_code=202, operation_class=EmptyOperation, middleware=[RateLimit(MAIL)])
    async def request_password_reset(self, data: JSONBody[LetterRequest]) -> Rendered[None]:
        """Request a password reset e-mail."""
        await email_links.request_link("reset", data.email)
        wake_worker()
        return Rendered("", status=202)

    @put("/", public=True, status_code=204, middleware=[RateLimit(SIGN_IN)])
    async def reset_password(self, data: JSONBody[PasswordReset]) -> None:
        """Set a new password with the token from the e-mail.

        All your sessions and API keys end.
        """
        await email_links.reset_password(data.token, data.password)
        forget_tokens()
        wake_worker()


class AccountController(Controller):
    path = "/users/me"
    tags = ("Users",)
    guards = (requires_session,)

    @put("/password", status_code=204, middleware=[RateLimit(SIGN_IN)])
    async def update_password(self, user: CurrentUser, data: JSONBody[PasswordUpdate]) -> None:
        """Change your password.

        Your other sessions end. A wrong `current_password` is refused with 403. It is also refused if a reset replaces
        the password while the request is running.
        """
        await password.update_password(user, data)
        forget_tokens()
        wake_worker()

    @delete("/", middleware=[RateLimit(SIGN_IN)])
    async def delete_account(self, user: CurrentUser, data: JSONBody[AccountDelete]) -> None:
        """Delete your account.

        Sign-in is disabled immediately. The account is deleted permanently after 30 days. This cannot be cancelled. A
        wrong `password` is refused with 403. It is also refused if a reset replaces it while the request is running.
        """
        await password.delete_account(user, data.password)
        forget_tokens()
