import re
import unicodedata
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import idna
import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.inputs import Input, OrDefault
from service.media.schemas import Portrait
from service.schemas import BLANK, END, Time, Title, line
from service.users.tables import BIO_LENGTH, DISPLAY_NAME_LENGTH, EMAIL_LENGTH, USERNAME_LENGTH

RESERVED_USERNAMES = frozenset({"me", "admin", "api", "system", "platform", "null", "undefined"})

ID_LENGTH = 36  # characters, with the dashes

PASSWORD_LENGTH = 10  # at least, in Unicode code points

# No spaces, no control characters, none that change the text direction, and none that have a meaning in the headers of
# mail ("a@x.org, b@x.org" is two addresses).
_ATOM = r"""[^@\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"(),:;<>\[\]\\]+"""
_EMAIL = rf"^{_ATOM}@{_ATOM}\.{_ATOM}" + END
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
_IGNORED = {0x034F, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *BLANK}
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
DisplayName = Annotated[str, line(DISPLAY_NAME_LENGTH, may_be_empty=True)]
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
    title: Title
    url: Url


Links = Annotated[list[Link], Meta(max_length=10)]


class UserCreate(Input, kw_only=True):
    """A new user."""

    email: Email
    username: Username
    password: Password
    display_name: OrDefault[DisplayName] = ""


class UserUpdate(Input, kw_only=True):
    """The fields to change. A new e-mail address requires the current password; null is only for an account that has
    none, as it is read."""

    display_name: DisplayName | None | UnsetType = UNSET
    bio: Bio | None | UnsetType = UNSET
    links: Links | None | UnsetType = UNSET
    email: Email | None | UnsetType = UNSET
    current_password: GivenPassword | None | UnsetType = UNSET


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

    email: (
        Annotated[str, Meta(description="Null once an address that was not verified within 30 days is released.")]
        | None
    )
    email_verified: bool
    version: int
    updated_at: Time


def is_username(text: str) -> bool:
    """Whether ``text``, for example from a path, is a valid username."""
    return re.fullmatch(_USERNAME, text) is not None


def name_or_id(text: str) -> dict[str, Any]:
    """The Params ``username`` and ``id`` of the user whom ``text`` in a path names; None where it is not of that kind.
    An id with its dashes is longer than any username."""
    name, user_id = text.lower(), None
    with suppress(ValueError):
        user_id = UUID(text) if len(text) == ID_LENGTH else None
    return {"username": name if is_username(name) else None, "id": user_id}


def normal_email(address: str) -> str | None:
    """The NFKC form, to which e-mails are sent, so that nobody verifies a lookalike of an address; None when that is no
    address, or has an invisible character, which a mail server may drop."""
    name, _, domain = unicodedata.normalize("NFKC", address).rpartition("@")
    domain = domain.rstrip(".")
    if any(map(_is_invisible, name)):
        return None
    if not domain.isascii() or "xn--" in domain.lower():  # the e-mail must go where the key says
        try:
            domain = idna.decode(idna.encode(domain, uts46=True)).rstrip(".")
        except idna.IDNAError:
            return None
    normal = f"{name}@{domain}"
    return normal if len(normal) <= EMAIL_LENGTH and re.search(_EMAIL, normal) else None


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in _INVISIBLE or ord(letter) in _IGNORED


def account_key(login: str) -> str:
    """The folded form, with the domain as DNS spells it. Two logins with the same key are the same login."""
    key = folded(login)
    domain = unicodedata.normalize("NFKC", login).rpartition("@")[2].rstrip(".")
    with suppress(idna.IDNAError):
        key = key.rpartition("@")[0] + "@" + idna.encode(domain, uts46=True).decode().rstrip(".") if "@" in key else key
    return key


def folded(text: str) -> str:
    """The form in which e-mail addresses and names are compared: normalized and without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
