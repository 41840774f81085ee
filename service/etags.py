"""ETags name one version of one row; ``If-Match`` compares them.

The same ETag always means the same bytes. So a representation may contain a value of another row only if a change of
that value also raises the ``version`` of this row, by a trigger or in the same transaction. Other values of other rows
are shown by ``expand`` only, as responses with it have no ETag. tests/contracts/test_etags.py checks this.
"""

import re
from uuid import UUID

from service.errors import PreconditionFailed, Violation

_WEAK = "A weak ETag (W/) in If-Match never matches (RFC 9110). Send the ETag as it was read, without W/."
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def etag(row_id: UUID | None, version: int) -> str:
    return f'"{row_id}-{version}"'


def if_match_fault(if_match: str) -> str | None:
    """A sentence if the header is neither ``*`` nor a list of ETags."""
    if if_match.strip() == "*" or all(_ETAG.fullmatch(tag) for tag in _tags(if_match)):
        return None
    return 'Must be * or ETags in double quotes, as in "…-3".'


def check_if_match(if_match: str | None, row_id: UUID | None, version: int) -> None:
    """Raises PreconditionFailed, with the current ETag, if the header is present but is neither ``*`` nor names this
    row's version."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = _tags(if_match)
    if etag(row_id, version) not in tags:
        is_weak = any(tag.startswith("W/") for tag in tags)
        text = "Must be a strong ETag, without W/." if is_weak else f"Is not the current version, which is {version}."
        faults, current = [Violation(text, header="If-Match")], {"ETag": etag(row_id, version)}
        raise PreconditionFailed(_WEAK if is_weak else "", errors=faults, headers=current)


def _tags(if_match: str) -> list[str]:
    return [tag.strip() for tag in if_match.split(",")]
