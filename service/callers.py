"""Who is calling, and the guards that state what a route asks of them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

Scope = Literal["characters:read", "characters:write", "templates:read", "templates:write"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A member behind a token, or a stranger: somebody without one, whose ``id`` is None and owns nothing."""

    id: UUID | None = None
    username: str = ""
    token_id: UUID | None = None
    kind: Literal["session", "key"] = "session"
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None


STRANGER = Caller()
