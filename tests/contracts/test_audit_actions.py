"""One table has the names of what the audit log records, and nothing else is recorded."""

import ast
import re
from collections.abc import Iterator
from typing import get_args

from service.audit.actions import Action
from service.audit.queries import Kind
from service.audit.tables import AuditEntry
from tests.support.servers import ROOT

SOURCES = sorted((ROOT / "service").rglob("*.py"))
# Kinds whose names are longer than, or differ from, the object in the name of an action
OBJECTS = {"template": {"template", "template_version"}, "service": {"task"}}


def calls_of_record() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCES:
        if path.name == "metrics.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "record":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def used(node: ast.AST) -> set[str]:
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "Action"
    }


def test_each_entry_has_a_name_of_the_table() -> None:
    """mypy refuses a text where an Action is wanted; here a text and a cast are refused, too."""
    found = list(calls_of_record())
    assert len(found) > 40
    for place, call in found:
        action = call.args[0]
        assert used(action) or isinstance(action, ast.Name), f"{place}: {ast.unparse(action)}"
        assert isinstance(call.args[1], ast.Constant), place
    for path in SOURCES:
        text = path.read_text()
        assert "insert into audit_log" not in text.lower(), path
        assert not re.search(r"AuditEntry\.insert|AuditEntry\(|insert\(\s*AuditEntry", text) or path.match(
            "audit/*.py"
        ), path


def test_each_name_is_recorded() -> None:
    recorded = {name for path in SOURCES if path.name != "actions.py" for name in used(ast.parse(path.read_text()))}
    assert recorded == set(Action.__members__)


def test_each_name_is_a_verb_and_its_object() -> None:
    for member, action in Action.__members__.items():
        assert re.fullmatch("[a-z]+_[a-z_]+", action), action
        assert (member.lower(), len(action) <= (AuditEntry.action.length or 0)) == (action, True)
        assert re.fullmatch("[A-Z][a-z][A-Za-z' -]+", action.label), action
    assert len({action.label for action in Action}) == len(Action)


def test_a_name_that_has_a_kind_is_of_rows_of_this_kind() -> None:
    kinds = {kind: OBJECTS.get(kind, {kind}) for kind in get_args(Kind)}
    objects = set().union(*kinds.values())
    for place, call in calls_of_record():
        kind = call.args[1].value  # type: ignore[attr-defined] # a constant
        for name in used(call.args[0]):
            _, _, what = Action[name].partition("_")
            assert what not in objects or what in kinds[kind], f"{place}: {name} of {kind}"


def test_each_entry_about_an_operator_has_the_name() -> None:
    """Which is that of the operator who did it, or in the detail. ``**known`` is empty for a name that nobody has."""
    for place, call in calls_of_record():
        if isinstance(kind := call.args[1], ast.Constant) and kind.value == "operator":
            given = {each.arg for each in call.keywords}
            assert given & {"operator", "username", None}, place
