from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.templates.rules.prompts import RENDERED_LENGTH, Rendered, placeholders, prompt_violations, render
from tests.conftest import character
from tests.support.cpu import is_quick

SCHEMA = {
    "type": "object",
    "properties": {
        "race": {"type": "string"},
        "eye.colour": {"type": "string"},
        "stats": {"type": "object", "properties": {"hp": {"type": "integer"}}},
    },
}


def rendered(prompt: str, **values: Any) -> str:
    return render(prompt, values).prompt


async def test_every_field_is_filled_in(alice: httpx.AsyncClient) -> None:
    fields = {"name": "Ilse", "description": "Tall", "style": "anime", "tags": ["night", "rain"]}
    ilse = await character(alice, prompt="{name}, {description}, {style}, {tags}", **fields)
    answer = await alice.get(f"/v1/characters/{ilse['id']}/prompt")
    assert answer.json() == {"prompt": "Ilse, Tall, anime, night, rain", "missing": [], "unknown": []}


def test_placeholders_are_filled_in() -> None:
    values = {"name": "Ilse", "race": "elf", "stats": {"hp": 12}, "eye.colour": "grey", "eye": {"colour": "red"}}
    assert render("{name}, a {race} with {stats.hp} hp and {eye.colour} eyes. {name}!", values) == Rendered(
        "Ilse, a elf with 12 hp and grey eyes. Ilse!", missing=[], unknown=[]
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a", "b"], "a, b"),
        (["a", None, 1], "a, , 1"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (-3, "-3"),
        (2.0, "2"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        ({"hp": 3, "tags": ["a", "b"]}, "hp: 3, tags: a, b"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert rendered("<{a}>", a=value) == f"<{text}>"


def test_missing_values_are_removed_and_unknown_placeholders_kept() -> None:
    values: dict[str, object] = {"hair": None, "scars": [], "motto": ""}
    prompt = "[{hair}{scars}{motto}{style}{race}{stats.hp}] {foo} {hair} {foo.bar} {}"
    assert render(prompt, values, SCHEMA) == Rendered(
        "[] {foo}  {foo.bar} {}",
        missing=["hair", "scars", "motto", "style", "race", "stats.hp"],
        unknown=["foo", "foo.bar", ""],
    )
    assert render("{race}", {}).unknown == ["race"]


@pytest.mark.parametrize(
    "prompt", ["{{user}}", "{{ {a} }}", "{{{a}}}", "{{random:{a},{b}}}", "{{}}", "{{a\n}}", "{{{a}"]
)
def test_double_braces_pass_through_untouched(prompt: str) -> None:
    assert render(prompt, {"a": "x"}) == Rendered(prompt, missing=[], unknown=[])
    assert placeholders(prompt) == []


def test_values_are_not_expanded_again() -> None:
    assert rendered("{a}{b}", a="{b}{{", b="}} {a}") == "{b}{{}} {a}"


def test_no_attribute_of_a_python_object_is_reached() -> None:
    assert render("{a.__class__} {a.0} {a!r} {a:>9}", {"a": "x"}).unknown == ["a.__class__", "a.0", "a!r", "a:>9"]


def test_placeholders_in_order_each_once() -> None:
    assert placeholders("{b} {a} {{c}} {b} {d.e} } {f") == ["b", "a", "d.e"]


def test_a_prompt_names_fields_and_attributes_only() -> None:
    assert prompt_violations("{name} {description} {style} {tags} {race} {stats.hp} {eye.colour} {{x}}", SCHEMA) == []
    found = prompt_violations("{stats.mp} {race.x} {owner}", SCHEMA)
    assert [(each.pointer, each.detail.split()[0]) for each in found] == [
        ("/prompt", "{stats.mp}"),
        ("/prompt", "{race.x}"),
        ("/prompt", "{owner}"),
    ]


@pytest.mark.parametrize("prompt", ["{{user}}", "{{ {a} }}", "{{{a}}}", "{{random:{a},{b}}}", "{{}}{name}"])
def test_double_braces_are_balanced(prompt: str) -> None:
    assert prompt_violations(prompt, SCHEMA) == []


@pytest.mark.parametrize("prompt", ["{", "}", "{name", "name}", "{a{name}", "{{name}", "{{", "{{a}} }", "{{{name}"])
def test_unbalanced_braces_are_refused(prompt: str) -> None:
    assert [each.detail for each in prompt_violations(prompt, SCHEMA)] == [
        "A brace is not balanced; write {name} for a placeholder."
    ]


@pytest.mark.parametrize("part", ["{", "}", "{{", "{a", "{a{", "{}", "{{}", "}}{{", "{a.", "{race}"])
def test_rendering_takes_linear_time_and_bounded_room(part: str) -> None:
    values = {"race": "x" * 64_000}
    text = part * 50_000
    assert is_quick(lambda: (render(text, values, SCHEMA), prompt_violations(text, SCHEMA)), 0.5)
    result = render(text, values, SCHEMA)
    assert len(result.prompt) <= len(part) * 50_000 + RENDERED_LENGTH


@given(prompt=st.text("ab{} .", max_size=20), values=st.dictionaries(st.sampled_from("ab"), st.text("a{}", max_size=5)))
def test_every_placeholder_is_filled_missing_or_unknown(prompt: str, values: dict[str, str]) -> None:
    result = render(prompt, values)
    names = placeholders(prompt)
    assert set(names) == {name for name in names if values.get(name)} | {*result.missing, *result.unknown}
    assert set(result.missing).isdisjoint(result.unknown)
    if not names:
        assert result.prompt == prompt
    if not (set(names) - set(result.unknown)):
        assert result.prompt == prompt


@given(text=st.text().filter(lambda text: "{" not in text and "}" not in text))
def test_text_without_braces_is_itself(text: str) -> None:
    assert render(text, {"a": 1}, SCHEMA) == Rendered(text, [], [])
    assert rendered("{a}" + text, a=text or "x") == (text or "x") + text
