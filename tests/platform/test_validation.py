"""JSON Pointers and the one walk over decoded JSON, at each door that uses them."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import msgspec
import pytest

from service.cards.formats.json import read_document
from service.database.engine import DB
from service.errors import Unprocessable, Violation
from service.templates.rules.bounds import bounds_violations
from service.templates.rules.subset import schema_violations
from service.text.json_values import count_values, stored_size
from service.validation import MAX_DEPTH, convert, pointer, storage_violations
from tests.conftest import character, faults
from tests.support.pictures import draw_picture

NUMBERS = ["1e308", "1.5e300", "-1e16", "1.25e-300", "5e-324", "1e-05", "0.0001", "123456.5", "12345678901234567890"]


async def test_numbers_count_with_the_digits_that_jsonb_gives_them(app: Any) -> None:
    for text in NUMBERS:
        (row,) = await DB._run_in_new_connection("SELECT octet_length($1::jsonb::text) AS size", [f"[{text}]"])
        value = [float(text)] if "e" in text or "." in text else [int(text)]
        assert stored_size(value, json.dumps(value)) == row["size"], text
    assert stored_size({"1e308": ["1e308"]}, '{"1e308":["1e308"]}') == len('{"1e308":["1e308"]}')


async def test_extensions_are_bounded_as_they_are_stored(alice: httpx.AsyncClient) -> None:
    for number, status in ((800, 201), (900, 422)):
        body = {"name": "Mira", "extensions": {"numbers": [1e308] * number}}
        assert (await alice.post("/v1/characters", json=body)).status_code == status


Door = Callable[[Any], list[Violation]]

NUL = "Must not contain the NUL character."
NUL_NAME = "Must not have the NUL character in a name."


def nested(depth: int) -> Any:
    """Objects and lists within each other, in turn."""
    value: Any = "\0"
    for level in range(depth, 0, -1):
        value = [value] if level % 2 == 0 else {"a": value}
    return value


def refused(check: Callable[..., Any], *arguments: Any) -> list[Violation]:
    with pytest.raises(Unprocessable) as refusal:
        check(*arguments)
    return refusal.value.errors


def in_body(value: Any) -> list[Violation]:
    return refused(convert, value, Any)


def in_card(value: Any) -> list[Violation]:
    return refused(read_document, json.dumps(value).encode())


def in_schema(value: Any) -> list[Violation]:
    return schema_violations({"type": "object", "x-note": value}, at="")


def in_attributes(value: Any) -> list[Violation]:
    return bounds_violations(value, at="")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((), ""),
        (("a", "b"), "/a/b"),
        (("a/b", "c~d"), "/a~1b/c~0d"),
        (("~1", "~0", "/~"), "/~01/~00/~1~0"),
        (("",), "/"),
        (("", ""), "//"),
        ((0, "0", 17), "/0/0/17"),
        ((" ", "é", '"'), '/ /é/"'),
    ],
)
def test_pointers_are_escaped(path: tuple[str | int, ...], expected: str) -> None:
    assert pointer("", *path) == expected
    assert pointer("/at~1", *path) == f"/at~1{expected}"
    value: Any = "\0"
    for step in reversed(path):
        value = [*["x"] * step, value] if isinstance(step, int) else {step: value}
    assert in_body(value) == [Violation(NUL, pointer=expected)]


@pytest.mark.parametrize("door", [in_body, in_card, in_attributes])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a/b": {"~": ["x", "\0"]}}, {"/a~1b/~0/1": NUL}),
        ({"a": ["\0", {"b": "\0"}], "c": "\0"}, {"/c": NUL, "/a/0": NUL, "/a/1/b": NUL}),
        ({"a": [[["\0"]], "x"]}, {"/a/0/0/0": NUL}),
    ],
)
def test_faulty_values_are_reported_where_they_are(door: Door, value: Any, expected: dict[str, str]) -> None:
    assert {each.pointer: each.detail for each in door(value)} == expected


@pytest.mark.parametrize("door", [in_body, in_card])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": {"": "\0"}}, [("/a/", NUL)]),
        ({"a\0": 1}, [("", NUL_NAME)]),
        ({"a": [{"\0": 1}]}, [("/a/0", NUL_NAME)]),
        ({"a": {"\0": {"b": "\0"}, "c": "\0"}}, [("/a", NUL_NAME), ("/a/c", NUL)]),
        ({"a": {"\0": "\0", "b\0": 1}}, [("/a", NUL_NAME), ("/a", NUL_NAME)]),
    ],
)
def test_a_faulty_name_is_reported_at_its_object(door: Door, value: Any, expected: list[tuple[str, str]]) -> None:
    assert [(each.pointer, each.detail) for each in door(value)] == expected


@pytest.mark.parametrize(("door", "place"), [(in_attributes, ""), (in_schema, "/x-note")], ids=["attributes", "schema"])
@pytest.mark.parametrize("name", ["", "\0", "\x1f", "\ud800", "a" * 101])
def test_a_name_that_no_attribute_may_have(door: Door, place: str, name: str) -> None:
    found = door({"a/": [{name: {"b": "\0"}}]})
    assert [each.pointer for each in found] == [f"{place}/a~1/0"]
    assert found[0].detail.startswith("A name must have 1 to 100 characters")


@pytest.mark.parametrize(
    ("door", "levels", "detail"),
    [
        (in_card, MAX_DEPTH, f"Is nested deeper than {MAX_DEPTH} levels."),
        (in_body, MAX_DEPTH, f"Is nested deeper than {MAX_DEPTH} levels."),
        (in_attributes, 16, "Must not be nested more than 16 levels deep."),
        (lambda value: in_schema(value["a"]), 32, "Must not be nested more than 32 levels deep."),
    ],
    ids=["card", "body", "attributes", "schema"],
)
def test_depth_is_bounded(door: Door, levels: int, detail: str) -> None:
    (deepest,) = door(nested(levels))
    assert deepest.detail == NUL
    for deeper in (levels + 1, levels + 30):
        (found,) = door(nested(deeper))
        assert found.detail == detail
        assert str(found.pointer).count("/") == levels


def test_a_walk_does_not_recurse() -> None:
    value = nested(100_000)
    (found,) = storage_violations(value)
    assert str(found.pointer).count("/") == MAX_DEPTH
    assert count_values(value) == 100_001


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfff!"])
def test_text_that_cannot_be_stored(text: str) -> None:
    detail = NUL if "\0" in text else "Must not contain half of a surrogate pair."
    assert list(storage_violations(text, "/a")) == [Violation(detail, pointer="/a")]
    assert next(storage_violations({text: 1})).detail == detail.replace("contain", "have")[:-1] + " in a name."
    for door in (in_card, in_attributes):
        assert door({"a": text}) == [Violation(detail, pointer="/a")]
    assert in_schema(text) == [Violation(detail, pointer="/x-note")]


def test_numbers_are_bounded_at_each_door() -> None:
    beyond_double = json.loads("[" + "9" * 400 + "]")[0]
    assert in_card({"a": [float("1e300"), beyond_double]}) == [
        Violation("Is larger than a double can hold.", pointer="/a/1")
    ]
    assert [each.pointer for each in in_attributes({"a": [2**63, 1e300, float("nan"), True]})] == [
        "/a/0",
        "/a/1",
        "/a/2",
    ]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: Annotated[int, msgspec.Meta(ge=1)]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    inner: list[Inner]
    slash: str = msgspec.field(name="a/b", default="")


def test_faults_of_types_have_escaped_pointers() -> None:
    body = {"inner": [{"number": 1}, {"number": 0, "~": 1}, {}], "a/b": 1, "": 1}
    found = refused(convert, body, Body)
    assert {each.pointer: each.detail for each in found} == {
        "/inner/1/number": "Must be at least 1.",
        "/inner/1/~0": "Is not a known field.",
        "/inner/2/number": "Is required.",
        "/a~1b": "Must be a string, not an integer.",
        "/": "Is not a known field.",
    }


async def test_fields_of_forms_have_escaped_pointers(alice: httpx.AsyncClient) -> None:
    mira = await character(alice)
    files = [("file", ("a", draw_picture())), ("a/b~", ("b", b"x")), ("a/b~", ("c", b"x"))]
    for method, path in (("PUT", f"/v1/characters/{mira['id']}/portrait"), ("POST", "/v1/imports")):
        answer = await alice.request(method, path, files=files)
        assert (answer.status_code, faults(answer)) == (422, {"/a~1b~0": "Is not a known field."})
        assert len(answer.json()["errors"]) == 1
