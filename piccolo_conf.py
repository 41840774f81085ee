"""For the ``piccolo`` command: the database and the apps."""

from piccolo.conf.apps import AppRegistry

from service.database.engine import DB
from service.database.migrations import make_migrations_safe
from service.database.piccolo_commands import complete_commands

__all__ = ["APP_REGISTRY", "DB"]

APP_REGISTRY = AppRegistry(apps=["service.piccolo_app", "piccolo.apps.user.piccolo_app"])

make_migrations_safe()
complete_commands()
