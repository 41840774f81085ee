import msgspec
from msgspec import UNSET, UnsetType

from service.characters.schemas import CharacterSummary
from service.errors import Problem


class ImportOutcome(msgspec.Struct, kw_only=True):
    """The outcome of one file: 201 with the character, or a problem. `notes` say what was normalised."""

    file: str
    status: int
    character: CharacterSummary | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET
    notes: list[str]


class ImportOutcomes(msgspec.Struct, kw_only=True):
    """The outcomes of all files, in the order of the request."""

    items: list[ImportOutcome]
