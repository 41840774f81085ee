import re
import unicodedata
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.media.schemas import Portrait
from service.schemas import END, PLAIN, PLAIN_FAULT, Input, Name, Time
from service.users.tables import BIO_LENGTH, EMAIL_LENGTH, USERNAME_LENGTH

RESERVED_USERNAMES = frozenset({"me", "admin", "api", "system", "platform", "null", "undefined"})

PASSWORD_LENGTH = 10  # at least, in Unicode code points

# No spaces, no controls, nothing that turns the direction of a line, and none of the signs that mail gives a meaning of
# their own ("a@x.org, b@x.org" is two addresses).
_ATOM = r"""[^@\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"(),:;<>\[\]\\]+"""
_EMAIL = rf"^{_ATOM}@{_ATOM}\.{_ATOM}" + END
_URL = r'^https?://[^\s<>"\x00-\x1f]+' + END

Email = Annotated[
    str,
    Meta(
        max_length=EMAIL_LENGTH,
        pattern=_EMAIL,
        extra={"fault": "Must be an e-mail address."},
        examples=["ada@example.org"],
    ),
]
_USERNAME = "^[a-z0-9_-]{3,32}" + END
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=USERNAME_LENGTH,
        pattern=_USERNAME,
        extra={"fault": "Must be made of a–z, 0–9, - and _."},
        examples=["ada"],
    ),
]
Password = Annotated[str, Meta(min_length=PASSWORD_LENGTH, max_length=256, examples=["correct horse battery staple"])]
GivenPassword = Annotated[str, Meta(max_length=256)]
DisplayName = Annotated[str, Meta(max_length=120, pattern=PLAIN, extra=PLAIN_FAULT)]
Bio = Annotated[str, Meta(max_length=BIO_LENGTH)]
Url = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=_URL,
        extra={"fault": "Must be an http or https address."},
        examples=["https://example.org/ada"],
    ),
]


class Link(Input, kw_only=True):
    title: Name
    url: Url


Links = Annotated[list[Link], Meta(max_length=10)]


class UserCreate(Input, kw_only=True):
    """A new user."""

    email: Email
    username: Username
    password: Password
    display_name: DisplayName = ""


class UserUpdate(Input, kw_only=True):
    """The fields to change. A new e-mail address requires the current password."""

    display_name: DisplayName | None | UnsetType = UNSET
    bio: Bio | None | UnsetType = UNSET
    links: Links | None | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    current_password: GivenPassword | UnsetType = UNSET


class Owner(msgspec.Struct, kw_only=True):
    """The user who owns this."""

    id: UUID
    username: str


class Profile(msgspec.Struct, kw_only=True):
    """A user's public profile."""

    id: UUID
    username: str
    display_name: str
    bio: str
    links: list[Link]
    avatar: Portrait | None
    created_at: Time


class Me(Profile, kw_only=True):
    """A user's own account."""

    email: str
    email_verified: bool
    version: int
    updated_at: Time


def is_username(text: str) -> bool:
    """Whether anybody can have this name: what a path holds may be anything."""
    return re.fullmatch(_USERNAME, text) is not None


def folded(text: str) -> str:
    """What makes two e-mail addresses or names the same one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
