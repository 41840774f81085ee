"""The caller of a request, and the scopes of API keys."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

Scope = Literal["characters:read", "characters:write", "templates:read", "templates:write"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The user whose token a request has. A request without a token is anonymous: its ``id`` is None."""

    id: UUID | None = None
    username: str = ""
    token_id: UUID | None = None
    kind: Literal["session", "key"] = "session"
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the token allows ``scope``. A session allows every one."""
        return self.kind != "key" or scope in self.scopes

    def within(self, scope: Scope) -> "Caller":
        """The caller whose rows a read of ``scope`` shows: an API key without it sees only what everyone sees."""
        return self if self.may(scope) else ANONYMOUS


ANONYMOUS = Caller()
PLATFORM = Caller(id=UUID(int=0), username="platform")  # for which operators change the templates without an owner

NO_LONGER_VALID = "The token has expired or was revoked."  # also if its user was purged a moment ago
