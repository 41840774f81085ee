"""Merge patches: what is between two objects, applied to the first, makes the second."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.text.json_values import is_same, merge_patch, patch_between

NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    st.sampled_from([True, False, 0, 1, 1.0, "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_patch_between_two_objects_leads_from_one_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = patch_between(before, after)
    assert is_same(merge_patch(before, patch), after)
    assert bool(patch) is not is_same(before, after)
