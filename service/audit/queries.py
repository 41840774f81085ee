"""The audit log: who did what to which row, from where.

An entry is written in the transaction of the change that it records, so neither exists without the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.tables import ADDRESS_LENGTH, DEVICE_LENGTH, AuditEntry
from service.callers import PLATFORM
from service.database.prepared import Param, Prepared, insert, utc
from service.identifiers import masked, uuid7
from service.limits.rate_limits import network_of
from service.log import REQUEST

Kind = Literal["session", "api_key", "user", "character", "relationship", "template", "operator", "service"]


class Recorded(NamedTuple):
    action: Action
    kind: Kind
    row: UUID | int | None
    detail: dict[str, Any]


class _OnBehalf(NamedTuple):
    operator: str
    reason: str
    recorded: list[Recorded]


# The operator whose form is being carried out
_ON_BEHALF: ContextVar[_OnBehalf | None] = ContextVar("_ON_BEHALF", default=None)

ENTRY: dict[str, Any] = {
    "id": AuditEntry.id,
    "created_at": utc(AuditEntry.created_at),
    "action": AuditEntry.action,
    "of": AuditEntry.kind,
    "row": AuditEntry.row,
    "token": AuditEntry.token,
    "address": AuditEntry.address,
    "request_id": AuditEntry.request_id,
    "device": AuditEntry.device,
    "detail": AuditEntry.detail,
}

_RECORD = Prepared(
    lambda: insert(
        AuditEntry,
        "id", "action", "kind", "row", "member", "owner", "operator", "token", "address", "request_id", "device",
        "detail",
    )
)  # fmt: skip
_REFUSED = Prepared(
    lambda: AuditEntry.select(AuditEntry.address).where(
        WhereRaw("{} = 'operator' AND {} IN ('refuse_password', 'refuse_code')", AuditEntry.kind, AuditEntry.action),
        WhereRaw("{} > now() - {}::interval", AuditEntry.created_at, Param("within")),
    )
)
_HAS_SIGNED_IN = Prepared(
    lambda: QueryString(
        "SELECT EXISTS (SELECT FROM audit_log"
        " WHERE kind = 'operator' AND action = 'sign_in' AND \"row\" = {} AND address = {})",
        Param("row"),
        Param("address"),
    )
)


@contextmanager
def on_behalf_of_operator(operator: str, reason: str) -> Iterator[list[Recorded]]:
    """Within it, ``record`` names ``operator`` instead of the member, whom it names as the owner, and adds the reason.
    An operator's form can so call what the API's requests call. The list gets what is recorded."""
    recorded: list[Recorded] = []
    token = _ON_BEHALF.set(_OnBehalf(operator, reason, recorded))
    try:
        yield recorded
    finally:
        _ON_BEHALF.reset(token)


async def record(
    action: Action,
    kind: Kind,
    row: UUID | int | None,
    *,
    member: UUID | None = None,
    operator: str | None = None,
    **detail: Any,
) -> None:
    """Records that ``member`` or ``operator`` did this; neither: an unknown caller. ``detail`` must hold no secret."""
    owner: UUID | int | None = None
    if on_behalf := _ON_BEHALF.get():
        owner = member if member != PLATFORM.id else None
        member, operator = None, on_behalf.operator
        on_behalf.recorded.append(Recorded(action, kind, row, dict(detail)))
        detail["reason"] = on_behalf.reason
    if operator is not None and kind == "user":
        owner = row
    await _RECORD.one(
        id=uuid7(),
        action=action,
        kind=kind,
        row=None if row is None else str(row),
        member=member,
        owner=owner,
        operator=operator,
        detail=msgspec.json.encode(detail).decode(),
        **_request_origin(),
    )


async def count_refused_operators(within: timedelta) -> int:
    """Counts wrong passwords and codes of operators from this request's network within that time, in all workers."""
    network = network_of(_request_origin()["address"] or "-")
    return sum(network_of(row["address"] or "-") == network for row in await _REFUSED.all(within=within))


async def has_signed_in(operator_id: int | None, address: str) -> bool:
    """Whether the operator has signed in from this address, as far as the log goes back."""
    row = None if operator_id is None else str(operator_id)
    return bool(await _HAS_SIGNED_IN.value(row=row, address=address[:ADDRESS_LENGTH]))


def _request_origin() -> dict[str, Any]:
    """The session, address, request id and device of the current request; empty values when a command runs."""
    if (scope := REQUEST.get()) is None:
        return {"token": None, "address": None, "request_id": None, "device": ""}
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"").decode("latin-1")
    return {
        "token": getattr(scope["user"], "token_id", None),  # users of the admin site have none
        "address": scope["client"][0][:ADDRESS_LENGTH] if scope.get("client") else None,
        "request_id": scope["state"]["request_id"],
        "device": masked(agent)[:DEVICE_LENGTH].replace("\0", ""),
    }
