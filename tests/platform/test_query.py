"""What a query's values may look like: only what the OpenAPI document says of their type."""

import httpx
import pytest

from tests.conftest import character, faults


@pytest.mark.parametrize(
    "parameter",
    [
        "limit=1.0",
        "limit=1e1",
        "limit=%2B1",
        "limit=01",
        f"limit={'9' * 5000}",
        "visibility=null",
        "style=NULL",
        "template=null",
        "template_version=1.0",
        "created_at.gte=1700000000",
        "created_at.gte=null",
    ],
)
async def test_a_list_reads_its_parameters_strictly(stranger: httpx.AsyncClient, parameter: str) -> None:
    answer = await stranger.get(f"/v1/characters?{parameter}")
    assert answer.status_code == 400
    assert faults(answer).keys() == {parameter.partition("=")[0]}


@pytest.mark.parametrize("path", ["graph?depth=1.0", "graph?depth=null", "revisions/1/changes?against=null"])
async def test_other_routes_read_theirs_as_strictly(alice: httpx.AsyncClient, path: str) -> None:
    mira = await character(alice)
    answer = await alice.get(f"/v1/characters/{mira['id']}/{path}")
    assert answer.status_code == 400
    assert faults(answer).keys() == {path.partition("?")[2].partition("=")[0]}


async def test_no_end_of_a_relationship_is_null(alice: httpx.AsyncClient) -> None:
    mira = await character(alice)
    answer = await alice.get(f"/v1/relationships/{mira['id']}?from=null")
    assert answer.status_code == 400
    assert faults(answer) == {"from": "Is not a valid UUID."}
