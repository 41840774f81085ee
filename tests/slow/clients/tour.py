"""The tour with openapi-python-client. API is the address of a service, PICTURE a PNG file."""

import os
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from character_service_client import AuthenticatedClient, Client
from character_service_client.api.cards import import_cards
from character_service_client.api.changes import list_changes
from character_service_client.api.characters import (
    create_character,
    get_portrait,
    list_characters,
    update_character,
    update_portrait,
)
from character_service_client.api.sessions import create_session
from character_service_client.api.templates import create_template
from character_service_client.api.users import create_user, export_account
from character_service_client.models import (
    ChangePage,
    CharacterCreate,
    CharacterPage,
    CharacterRead,
    CharacterUpdate,
    CharacterUpdateAttributes,
    ExpandedTemplate,
    ImportCardsBody,
    ImportOutcomes,
    ListCharactersExpandItem,
    ListCharactersFieldsItem,
    ListCharactersSortItem,
    Me,
    PartialCharacterPage,
    Pin,
    Portrait,
    PortraitLinks,
    Problem,
    Profile,
    SessionCreate,
    SessionCreated,
    Style,
    TemplateCreate,
    TemplateCreateAttributeSchema,
    TemplateGiven,
    TemplateRead,
    UpdatePortraitFilesBody,
    UserCreate,
)
from character_service_client.types import File

API = os.environ["API"]
PICTURE = Path(os.environ["PICTURE"]).read_bytes()
SCHEMA = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"type": "string", "enum": ["inspector", "suspect"], "default": "suspect"}},
}

T = TypeVar("T")


def expect(kind: type[T], answer: object) -> T:
    assert isinstance(answer, kind), answer
    return answer


anonymous = Client(base_url=API)
account = UserCreate(email="python@example.org", username="python", password="a difference engine")
expect(Me, create_user.sync(client=anonymous, body=account))
signed_in = SessionCreate(login="python", password=account.password)
session = expect(SessionCreated, create_session.sync(client=anonymous, body=signed_in))
client = AuthenticatedClient(base_url=API, token=session.token, headers={"Accept": "application/json"})

template = expect(
    TemplateRead,
    create_template.sync(
        client=client,
        body=TemplateCreate(
            name="Night detective",
            style=Style.VINTAGE,
            prompt="{name}, {role}",
            attribute_schema=TemplateCreateAttributeSchema.from_dict(SCHEMA),
        ),
    ),
)
body = CharacterCreate(name="Mira Halloran", template=template.id, tags=["night, city", "detective"])
mira = expect(CharacterRead, create_character.sync(client=client, body=body))
assert mira.attributes["role"] == "suspect"

refused = expect(Problem, create_character.sync(client=client, body=CharacterCreate(name="")))
assert refused.errors
assert refused.errors[0].pointer == "/name"
pin = expect(Pin, mira.template)
changes = CharacterUpdate(
    attributes=CharacterUpdateAttributes.from_dict({"role": "inspector"}),
    template=TemplateGiven(id=pin.id, version=pin.version),  # as it was read
)
changed = update_character.sync(mira.id, client=client, body=changes, if_match=f'"{mira.id}-1"')
assert expect(CharacterRead, changed).version == 2

upload = UpdatePortraitFilesBody(file=File(BytesIO(PICTURE), "mira.png", "image/png"))
portrayed = expect(CharacterRead, update_portrait.sync(mira.id, client=client, body=upload))
assert expect(Portrait, portrayed.portrait).width > 0
links = expect(PortraitLinks, get_portrait.sync(mira.id, client=client)).links
assert client.get_httpx_client().get(links["64"]).status_code == 200

sort = [ListCharactersSortItem.VALUE_1, ListCharactersSortItem.NAME]
assert sort[0] == "-created_at"
found = list_characters.sync(client=client, owner="me", tags=['"night, city"', "detective"], sort=sort)
page = expect(CharacterPage, found)
assert [character.id for character in page.items] == [mira.id]
assert page.next_cursor is None
expand = [ListCharactersExpandItem.OWNER, ListCharactersExpandItem.TEMPLATE]
(item,) = expect(CharacterPage, list_characters.sync(client=client, owner="me", expand=expand)).items
assert expect(Profile, item.owner).display_name == ""
assert expect(ExpandedTemplate, item.template).name == "Night detective"
fields = [ListCharactersFieldsItem.NAME, ListCharactersFieldsItem.ATTRIBUTES]
(narrow,) = expect(PartialCharacterPage, list_characters.sync(client=client, owner="me", fields=fields)).items
assert narrow.attributes
assert narrow.attributes["role"] == "inspector"

card = client.get_httpx_client().get(f"/v1/characters/{mira.id}/card", params={"format": "png"})
files = ImportCardsBody(file=[File(BytesIO(card.content), "mira.png", "image/png")])
(outcome,) = expect(ImportOutcomes, import_cards.sync(client=client, body=files)).items
assert outcome.status == 201
assert outcome.character
assert outcome.character.name == "Mira Halloran"

assert len(expect(ChangePage, list_changes.sync(client=client)).items) == 2
assert len(expect(str, export_account.sync(client=client)).splitlines()) > 3
print("The tour is done.")  # noqa: T201 (its result)
