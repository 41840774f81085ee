from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from service.callers import Scope
from service.inputs import Input
from service.schemas import Time, Title
from service.users.schemas import Email, GivenPassword, Me, Owner, Password

# Of the link in a message. In a body, because paths are logged, here and by proxies
LinkToken = Annotated[str, Meta(max_length=256)]


class SessionCreate(Input, kw_only=True):
    """Credentials. `login` is the e-mail address or the username."""

    login: Annotated[str, Meta(min_length=1, max_length=254, examples=["ada"])]
    password: GivenPassword


class Session(msgspec.Struct, kw_only=True):
    id: UUID
    device: str
    address: str
    created_at: Time
    expires_at: Time
    last_used_at: Time | None
    current: bool


class SessionCreated(msgspec.Struct, kw_only=True):
    """Only this response contains the token."""

    id: UUID
    token: str
    expires_at: Time
    user: Me


class ApiKeyCreate(Input, kw_only=True):
    name: Title
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4)]
    current_password: GivenPassword
    expires_at: Time | None = None


class ApiKey(msgspec.Struct, kw_only=True):
    id: UUID
    name: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None


class ApiKeyCreated(ApiKey, kw_only=True):
    """Only this response contains the token."""

    token: str


class CurrentToken(msgspec.Struct, kw_only=True):
    """The token of this request and its user. A session has all `scopes`, and can do what no scope allows, such as
    changing the account. `expires_at` is null for an API key without an end."""

    id: UUID
    kind: Literal["session", "api_key"]
    user: Owner
    scopes: list[Scope]
    expires_at: Time | None


class LetterRequest(Input, kw_only=True):
    """The address to write to. The response does not reveal whether the address has an account."""

    email: Email


class EmailVerification(Input, kw_only=True):
    """`current_password` is required unless the request has a session of the account."""

    token: LinkToken
    current_password: GivenPassword | None = None


class PasswordReset(Input, kw_only=True):
    token: LinkToken
    password: Password


class AccountDelete(Input, kw_only=True):
    password: GivenPassword


class PasswordUpdate(Input, kw_only=True):
    current_password: GivenPassword
    new_password: Password
