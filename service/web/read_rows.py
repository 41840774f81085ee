"""A body of PATCH may be a row that was read: its read-only members are ignored if they did not change."""

from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from service.errors import Unprocessable, Violation
from service.etags import check_if_match
from service.schemas import Time
from service.text.json_values import is_same
from service.validation import UNKNOWN, convert, pointer

Body = TypeVar("Body", bound=msgspec.Struct)

_OF_EACH_WRITE = {"version", "updated_at"}  # without If-Match the last write wins, so these may be older
_READ_ONLY = "Is read-only: send it as it is now, or leave it out."


def may_be_read(error: Unprocessable) -> bool:
    """Whether a body was refused, among other reasons, for members that are not known."""
    return any(fault.detail == UNKNOWN for fault in error.errors)


def convert_read(plain: Any, row: Any, expected: type[Body], if_match: str | None) -> Body:
    """Converts decoded JSON to ``expected``, without the read-only members: those that ``row``, of (id, version, item),
    shows and ``expected`` does not have. Raises Unprocessable with every fault, and PreconditionFailed if a read-only
    member differs and ``if_match`` is stale."""
    shown = msgspec.json.decode(row["item"])
    read_only = shown.keys() - {field.encode_name for field in msgspec.structs.fields(expected)}
    compared = read_only if if_match is not None else read_only - _OF_EACH_WRITE
    changed = [name for name in plain if name in compared and not _is_unchanged(plain[name], shown[name])]
    if changed:
        check_if_match(if_match, row["id"], row["version"])
    faults = [Violation(_READ_ONLY, pointer=pointer("", name)) for name in changed]
    try:
        data = convert({name: value for name, value in plain.items() if name not in read_only}, expected)
    except Unprocessable as error:
        raise Unprocessable.of([*faults, *error.errors]) from None
    if faults:
        raise Unprocessable.of(faults)
    return data


def _is_unchanged(sent: Any, shown: Any) -> bool:
    """Times are equal in any zone. An object with an ``id`` may have more members, as ``expand`` returns it."""
    if isinstance(sent, str) and isinstance(shown, str) and sent != shown:
        with suppress(msgspec.ValidationError):
            return bool(msgspec.convert(sent, Time) == msgspec.convert(shown, Time))
        return False
    if isinstance(sent, dict) and isinstance(shown, dict) and "id" in shown:
        sent = {name: value for name, value in sent.items() if name in shown}
    return is_same(sent, shown)
