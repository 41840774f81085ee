"""ETags name one version of one row; ``If-Match`` compares them.

No bytes change under the same ETag, so a representation holds only what changes with the row's ``version``. A value of
another row is shown in one of two ways: a change of it raises the version too, by a trigger or in the same transaction,
or only ``expand`` shows it, whose answers have no ETag. tests/contracts/test_etags.py tries both.
"""

import re
from uuid import UUID

from service.errors import BadRequest, PreconditionFailed, Violation

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def etag(row_id: UUID | None, version: int) -> str:
    return f'"{row_id}-{version}"'


def check_if_match(if_match: str | None, row_id: UUID | None, version: int) -> None:
    """Raises PreconditionFailed unless the header names this row's version (or is absent or ``*``), BadRequest when
    it is no list of ETags."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if not all(_ETAG.fullmatch(tag) for tag in tags):
        fault = Violation('Must be * or ETags in double quotes, as in "…-3".', header="If-Match")
        raise BadRequest("The If-Match header is not valid.", errors=[fault])
    if etag(row_id, version) not in tags:
        raise PreconditionFailed
