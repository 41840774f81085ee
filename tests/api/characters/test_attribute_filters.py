"""Filters by attributes: nested values, types and quotes."""

import httpx

from tests.conftest import character

Client = httpx.AsyncClient

ADA = {
    "code": 7, "flag": True, "a": {"b": "x"}, "quote": 'a, "b"', "rank": 10,
    "stats": {"level": 4, "home": "The Shire", "traits": [7], "like": "x", "eq": 1},
}  # fmt: skip
BOB = {"code": "7", "flag": "true", "a.b": "x", "quote": "c", "rank": "9", "stats": {"level": "4", "traits": ["7"]}}
CID = {"code": [7], "stats": 4, "list": [{"level": 4}]}

# Each filter, and who matches it.
FOUND = {
    # A bare value matches text, number and boolean alike.
    "code=7": "Ada Bob",
    "code=7.0": "Ada",
    'code="7"': "Bob",
    "code.ne=7": "Cid",
    'code.ne="7"': "Ada Cid",
    "code.in=7,8": "Ada Bob",
    'code.in="7",8': "Bob",
    "code.contains=7": "Ada Bob Cid",
    "flag=true": "Ada Bob",
    'flag="true"': "Bob",
    # A comparison is of numbers, or of texts.
    "rank.gt=8": "Ada",
    'rank.gt="8"': "Bob",
    "rank.lte=10": "Ada",
    # Quotes
    'quote.in="a, ""b""",x': "Ada",
    'quote="a, ""b"""': "Ada",
    'quote=a, "b"': "Ada",
    "quote.in= c ,x": "Bob",
    # Nested values
    "a.b=x": "Ada",
    '"a.b"=x': "Bob",
    '"a"."b"=x': "Ada",
    '"a.b".exists=true': "Bob",
    "stats.level=4": "Ada Bob",
    'stats.level="4"': "Bob",
    "stats.level.gte=4": "Ada",
    'stats.level.gte="4"': "Bob",
    "stats.level.in=3,4": "Ada Bob",
    "stats.level.ne=4": "Cid",
    "stats.level.exists=true": "Ada Bob",
    "stats.level.exists=false": "Cid",
    "stats.home.contains=shire": "Ada",
    "stats.traits.contains=7": "Ada Bob",
    'stats.traits.contains="7"': "Bob",
    'stats."like"=x': "Ada",
    'stats."eq".gt=0': "Ada",
    "stats.gt=3": "Cid",
    "list.level=4": "",
    "stats.traits.0=7": "",
}
REFUSED = {
    "a.eq=1": ("a.eq", "unknown operator"),
    "a.b.like=1": ("a.b.like", 'Quote the name of an attribute: "like".'),
    "a.GTE=1": ("a.GTE", ".gte"),
    "a..b=1": ("a..b", "Must name an attribute."),
    ".gt=1": (".gt", "Must name an attribute."),
    "=1": ("", "Must name an attribute."),
    '"a=1': ('"a', "close each quote"),
    '"a"b=1': ('"a"b', "go on with a dot"),
    'a.in=x,"y': ("a.in", "close each quote"),
    "a.exists=1": ("a.exists", "true or false"),
    "a.in=": ("a.in", "no empty value"),
    "a.in=x,,y": ("a.in", "no empty value"),
    "a.contains=": ("a.contains", "Must not be empty."),
    "a[gte]=1": ("a[gte]", "as in .gte"),
}


async def test_attributes_are_found_by_their_path_and_type(alice: Client) -> None:
    for name, attributes in (("Ada", ADA), ("Bob", BOB), ("Cid", CID)):
        await character(alice, name=name, attributes=attributes)
    for query, expected in FOUND.items():
        name, _, value = query.partition("=")
        for also in ({}, {"tags.none": "x"}):  # alone, and as a test of single rows
            parameters = {f"attributes.{name}": value, "sort": "name", "fields": "name"} | also
            answer = await alice.get("/v1/characters", params=parameters)
            assert answer.status_code == 200, (query, answer.text)
            assert " ".join(item["name"] for item in answer.json()["items"]) == expected, query


async def test_a_faulty_filter_is_refused_with_its_name(stranger: Client) -> None:
    for query, (parameter, told) in REFUSED.items():
        name, _, value = query.partition("=")
        answer = await stranger.get("/v1/characters", params={f"attributes.{name}": value})
        assert answer.status_code == 400, query
        (fault,) = answer.json()["errors"]
        assert fault["parameter"] == f"attributes.{parameter}"
        assert told in fault["detail"]
    both = await stranger.get("/v1/characters?attributes.a.eq=1&attributes.b.exists=x")
    assert [fault["parameter"] for fault in both.json()["errors"]] == ["attributes.a.eq", "attributes.b.exists"]
