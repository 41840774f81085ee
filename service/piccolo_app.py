"""The one Piccolo app: its tables, its migrations, its commands."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

from service.admin.operators import OperatorSession
from service.audit.tables import AuditEntry
from service.auth.tables import EmailToken, Token
from service.cards.tables import Card, CardAsset
from service.characters.tables import Character, Revision
from service.commands.collect_files import collect_files
from service.commands.purge import purge
from service.commands.seed import seed
from service.idempotency.tables import IdempotencyKey
from service.mail.tables import Message
from service.media.tables import StoredFile
from service.relationships.tables import Relationship
from service.templates.tables import Template, TemplateVersion
from service.users.tables import ReservedUsername, User

APP_CONFIG = AppConfig(
    app_name="service",
    migrations_folder_path=str(Path(__file__).parent.parent / "piccolo_migrations"),
    table_classes=[
        StoredFile,
        User,
        ReservedUsername,
        Token,
        EmailToken,
        Message,
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
    commands=[seed, purge, collect_files],
)
