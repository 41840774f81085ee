from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.errors import Violation
from service.inputs import Input
from service.parameters import Given, Query

Format = Literal["json", "png", "charx"]
UnixTime = Annotated[int, Meta(ge=0, le=2**53, description="Seconds since 1970.")]


class CardQuery(Query, kw_only=True, frozen=True):
    """The container and the specification of the exported card."""

    format: Annotated[Format, Meta(description="`png` and `charx` include the portrait and the other files.")] = "json"
    spec: (
        Annotated[
            Literal["v2", "v3"],
            Meta(
                description="Default: the card's own version (V2 for a V1 card); both in a PNG. A CHARX is always V3."
            ),
        ]
        | None
    ) = None

    @classmethod
    def violations(cls, given: Given) -> Iterator[Violation]:
        yield from super().violations(given)
        if given.get("format") == "charx" and given.get("spec") == "v2":
            yield Violation("Must be v3: CHARX exists only in V3.", parameter="spec")


class CardUpdate(Input, kw_only=True):
    """The fields that only a card has. Fields that are not sent keep their values; null removes a field,
    or empties it if V2 requires it."""

    personality: str | None | UnsetType = UNSET
    scenario: str | None | UnsetType = UNSET
    first_mes: str | None | UnsetType = UNSET
    mes_example: str | None | UnsetType = UNSET
    creator_notes: str | None | UnsetType = UNSET
    system_prompt: str | None | UnsetType = UNSET
    post_history_instructions: str | None | UnsetType = UNSET
    alternate_greetings: list[str] | None | UnsetType = UNSET
    group_only_greetings: list[str] | None | UnsetType = UNSET
    creator: str | None | UnsetType = UNSET
    character_version: str | None | UnsetType = UNSET
    character_book: dict[str, Any] | None | UnsetType = UNSET
    nickname: str | None | UnsetType = UNSET
    creator_notes_multilingual: dict[str, str] | None | UnsetType = UNSET
    source: list[str] | None | UnsetType = UNSET
    creation_date: UnixTime | None | UnsetType = UNSET
    modification_date: UnixTime | None | UnsetType = UNSET


class CardRead(msgspec.Struct, kw_only=True):
    """A Character Card. `data` is the imported data with the later edits applied."""

    spec: Literal["chara_card_v2", "chara_card_v3"]
    spec_version: str
    data: dict[str, Any]
