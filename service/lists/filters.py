"""The filters of a list, wired to the parameters that its query Struct declares. A mismatch fails at import."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from service.lists.statements import Filter
from service.parameters import ListQuery, OwnerQuery
from service.schemas import check_members

Given = dict[str, dict[str, Any]]  # the filters of a request by name, with the values of their Params


class Filters:
    """The filters of one list by name.

    ``filters`` has an entry for each parameter that only ``query`` declares: a Filter with one Param (named like the
    parameter, ``_`` for ``.``), or a Filter without Params for each value, or for each set of values, a sorted tuple.
    ``open_filter`` finds the Filter of each name that ``query.read_open`` returns. Raises TypeError if a declared
    parameter has no filter, or a filter no parameter.
    """

    def __init__(
        self,
        query: type[ListQuery],
        filters: Mapping[str, Filter | Mapping[Any, Filter]],
        open_filter: Callable[[str], Filter] | None = None,
    ) -> None:
        check_members(query, {*filters, *_parameters_of_all(query)}, "the filters of its list")
        if bool(query.open_prefix) != (open_filter is not None):
            raise TypeError(f"{query.__name__} and the filters of its list differ in: open parameters.")
        self._open_filter = open_filter
        self._parameters: list[tuple[str, str, str]] = []  # attribute of the Struct, filter, Param or "" for none
        self._filters: dict[str, Filter] = {}
        attributes = {field.encode_name: field.name for field in msgspec.structs.fields(query)}
        for name, each in filters.items():
            if isinstance(each, Filter):
                self._filters[name] = each
                self._parameters.append((attributes[name], name, name.replace(".", "_")))
            else:
                self._filters |= {f"{name}={value}": one for value, one in each.items()}
                self._parameters.append((attributes[name], name, ""))

    def __getitem__(self, name: str) -> Filter:
        if (found := self._filters.get(name)) is None and self._open_filter is not None:
            found = self._open_filter(name)
        if found is None:
            raise KeyError(name)
        return found

    def given(self, query: ListQuery) -> Given:
        """The filters that ``query`` asks for."""
        given: Given = {}
        for attribute, name, param in self._parameters:
            if (value := getattr(query, attribute)) is None:
                continue
            if param:
                value = list(value) if isinstance(value, tuple) else value
                prepare = self._filters[name].prepare
                given[name] = {param: prepare(value) if prepare else value}
            else:
                given[f"{name}={tuple(sorted({*value})) if isinstance(value, tuple) else value}"] = {}
        return given | query.open


def _parameters_of_all(query: type[ListQuery]) -> set[str]:
    base = OwnerQuery if issubclass(query, OwnerQuery) else ListQuery
    return {field.encode_name for field in msgspec.structs.fields(base)}
