"""The one Piccolo app: its tables, its migrations, its commands."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

from service.audit.tables import AuditEntry
from service.cards.tables import Card, CardAsset
from service.characters.tables import Character, Revision
from service.collect import collect
from service.emails.tables import EmailToken
from service.idempotency import IdempotencyKey
from service.letters.tables import Letter
from service.operators import OperatorSession
from service.pictures.tables import StoredFile
from service.purge import purge
from service.relationships.tables import Relationship
from service.seed import seed
from service.templates.tables import Template, TemplateVersion
from service.tokens.tables import Token
from service.users.tables import User

APP_CONFIG = AppConfig(
    app_name="service",
    migrations_folder_path=str(Path(__file__).parent.parent / "piccolo_migrations"),
    table_classes=[
        StoredFile,
        User,
        Token,
        EmailToken,
        Letter,
        Template,
        TemplateVersion,
        Character,
        Revision,
        Card,
        CardAsset,
        Relationship,
        IdempotencyKey,
        AuditEntry,
        OperatorSession,
    ],
    commands=[seed, purge, collect],
)
