"""The types of relationships. Each has an inverse: ``parent_of`` reads ``child_of`` from the other side."""

from typing import Literal, NamedTuple, get_args

from service.errors import Unprocessable, Violation

Category = Literal["family", "affection", "conflict", "work", "bond", "custom"]


class RelationshipType(NamedTuple):
    """A type as it is stored. ``inverse`` is its name as read from the target; a symmetric type is its own inverse."""

    name: str
    inverse: str
    category: Category

    @property
    def symmetric(self) -> bool:
        return self.name == self.inverse


CUSTOM = RelationshipType("custom", "custom", "custom")
_STORED = [
    RelationshipType("parent_of", "child_of", "family"),
    RelationshipType("grandparent_of", "grandchild_of", "family"),
    RelationshipType("guardian_of", "ward_of", "family"),
    RelationshipType("sibling_of", "sibling_of", "family"),
    RelationshipType("married_to", "married_to", "family"),
    RelationshipType("related_to", "related_to", "family"),
    RelationshipType("friend_of", "friend_of", "affection"),
    RelationshipType("partner_of", "partner_of", "affection"),
    RelationshipType("secretly_loves", "secretly_loved_by", "affection"),
    RelationshipType("rival_of", "rival_of", "conflict"),
    RelationshipType("enemy_of", "enemy_of", "conflict"),
    RelationshipType("betrayed", "betrayed_by", "conflict"),
    RelationshipType("mentor_of", "student_of", "work"),
    RelationshipType("employer_of", "employee_of", "work"),
    RelationshipType("colleague_of", "colleague_of", "work"),
    RelationshipType("serves", "served_by", "work"),
    RelationshipType("ally_of", "ally_of", "bond"),
    RelationshipType("protector_of", "protected_by", "bond"),
    RelationshipType("creator_of", "created_by", "bond"),
    RelationshipType("owes_debt_to", "is_owed_debt_by", "bond"),
    CUSTOM,
]

# For each name that a client may use: the stored type, and whether the name is that type's inverse.
TYPES = {kind.inverse: (kind, True) for kind in _STORED} | {kind.name: (kind, False) for kind in _STORED}

TypeName = Literal[
    "parent_of", "child_of", "grandparent_of", "grandchild_of", "guardian_of", "ward_of", "sibling_of", "married_to",
    "related_to", "friend_of", "partner_of", "secretly_loves", "secretly_loved_by", "rival_of", "enemy_of", "betrayed",
    "betrayed_by", "mentor_of", "student_of", "employer_of", "employee_of", "colleague_of", "serves", "served_by",
    "ally_of", "protector_of", "protected_by", "creator_of", "created_by", "owes_debt_to", "is_owed_debt_by", "custom",
]  # fmt: skip

assert set(get_args(TypeName)) == TYPES.keys()  # noqa: S101 (checked on import)

LABELS = ("label", "inverse_label")  # of a custom type, as read from one side


def stored_labels(type_name: str, label: str | None, inverse_label: str | None) -> tuple[str, str]:
    """``label`` and ``inverse_label`` of a custom type; two empty strings for other types. Raises Unprocessable when a
    custom type has no label, or another type has one."""
    if type_name != CUSTOM.name:
        violations = [
            Violation("Only a custom type has labels.", pointer=f"/{name}")
            for name, given_label in zip(LABELS, (label, inverse_label), strict=True)
            if given_label is not None
        ]
    else:
        violations = [] if label else [Violation("A custom type needs a label.", pointer="/label")]
    if violations:
        raise Unprocessable.of(violations)
    return label or "", inverse_label or label or ""
