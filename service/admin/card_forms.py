"""The form of operators that imports a card for a member. It calls what the member's upload calls."""

from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
from piccolo_admin.endpoints import FormConfig
from pydantic import Field

from service.admin.forms import (
    Confirm,
    LongText,
    OperatorForm,
    Preview,
    Reason,
    json_object,
    operator_form,
    refused,
    shortened,
)
from service.admin.member_forms import MemberName, find_open
from service.audit.actions import Action
from service.audit.queries import record
from service.callers import Caller
from service.cards.imports.queries import MAX_TOGETHER, START, Imported, NewCard, import_card, store_card
from service.cards.imports.schemas import OnDuplicate
from service.errors import ServiceError

_FILE_NAME = "card.json"  # by which the reader knows the format
_CHOICES: tuple[str, ...] = get_args(OnDuplicate)
DuplicateChoice = Annotated[
    str,
    Field(
        description="For a card that the member has imported before: keep that character and create another, skip the"
        " card, or update that character.",
        json_schema_extra={"enum": list(_CHOICES)},
    ),
]


class CardImport(OperatorForm):
    member: MemberName
    card: Annotated[LongText, Field(description="The JSON of a Character Card, with at most 1 MiB.")]
    on_duplicate: DuplicateChoice = "keep"
    reason: Reason
    confirm: Confirm = False


class _Card(msgspec.Struct):
    member: Any
    card: NewCard


def _as_fault(error: ServiceError) -> ServiceError:
    """Pointers into the card, which are shown without the field, or its whole fault, are about ``card``."""
    faults = [f"{each.pointer or ''} {each.detail}".strip() for each in error.errors]
    return refused("card", " ".join(faults) or error.detail)


async def _to_import(data: CardImport) -> Preview:
    if data.on_duplicate not in _CHOICES:
        raise refused("on_duplicate", f"Must be one of {', '.join(_CHOICES)}.")
    row = await find_open(data)
    json_object("card", data.card)  # for the line of a fault
    content = data.card.encode()

    async def read() -> bytes:
        return content

    card = await store_card(_FILE_NAME, content[:START], read, room=MAX_TOGETHER, dry_run=not data.confirm)
    if isinstance(card, ServiceError):
        raise _as_fault(card)
    notes = " ".join(card.notes)
    text = f"{row['username']} will have {card.fields.name}, which is private: “{shortened(card.fields.description)}”."
    return Preview(_Card(row, card), f"{text} {notes}".strip())


async def _import(found: _Card, data: CardImport) -> str:
    owner = Caller(id=found.member["id"], username=found.member["username"])
    on_duplicate: Any = data.on_duplicate
    result = await import_card(owner, found.card, on_duplicate)
    if not isinstance(result, Imported):
        raise _as_fault(result)
    character = msgspec.json.decode(result.character)
    if result.status == 200 and data.on_duplicate == "skip":
        raise refused("card", f"{owner.username} has imported it before, as {character['id']}.")
    action = Action.CREATE_CHARACTER if result.status == 201 else Action.UPDATE_CHARACTER
    pasted = f"pasted JSON, Character Card {found.card.card.spec.upper()}"
    await record(action, "character", UUID(character["id"]), member=owner.id, card=pasted)
    return f"{character['name']} of {owner.username} is imported."


FORMS: list[FormConfig] = [
    operator_form(
        "Import a card",
        "Characters",
        "Creates a character of a member from the JSON of a Character Card.",
        CardImport,
        _to_import,
        _import,
    )
]
