"""The contents page: every controller, the v1 router, and what stands in front of them."""

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.admin.mount import admin
from service.auth.controller import (
    AccountController,
    ApiKeyController,
    EmailVerificationController,
    PasswordResetController,
    SessionController,
)
from service.auth.email_links import mint_token
from service.auth.token_cache import identify
from service.cards.controller import CardController
from service.cards.imports.controller import ImportController
from service.changes.controller import ChangeController
from service.characters.bulk import BulkController
from service.characters.controller import CharacterController
from service.characters.copies import CopyController
from service.characters.portraits import PortraitController
from service.characters.prompts import PromptController
from service.characters.validation import ValidationController
from service.database.engine import pool
from service.exports.controller import ExportController
from service.health import HealthController
from service.idempotency.queries import Attempt
from service.limits.rate_limits import READS, WRITES
from service.limits.valkey import connection as valkey_connection
from service.log import access_log, set_up_logging
from service.mail.worker import mail_worker
from service.media.controller import MediaController
from service.relationships.controller import RelationshipController
from service.relationships.graph.controller import GraphController
from service.revisions.controller import RevisionController
from service.settings import settings
from service.template_migrations.controller import MovingController
from service.templates.controller import TemplateController
from service.templates.versions.controller import VersionController
from service.trash.controller import TrashController
from service.users.avatars import AvatarController
from service.users.controller import UserController
from service.web.docs import ASSETS, ProblemController, get_openapi, get_root
from service.web.guards import authenticated, current_user, known_parameters
from service.web.middleware.authentication import Authentication
from service.web.middleware.doorway import Doorway, Options
from service.web.middleware.load_shedding import Overload, allow_many_connections
from service.web.middleware.rate_limit import RateLimit
from service.web.middleware.writes import Writes
from service.web.openapi_config import OPENAPI
from service.web.problems import answer_problem
from service.web.requests import StrictRequest

MAX_BODY = 1024 * 1024
MAX_PARTS = 200  # of a form

v1 = Router(
    "/v1",
    route_handlers=[
        UserController,
        AvatarController,
        AccountController,
        ExportController,
        SessionController,
        ApiKeyController,
        EmailVerificationController,
        PasswordResetController,
        TemplateController,
        VersionController,
        CharacterController,
        PortraitController,
        CopyController,
        CardController,
        ImportController,
        PromptController,
        ValidationController,
        BulkController,
        RevisionController,
        TrashController,
        ChangeController,
        MovingController,
        RelationshipController,
        GraphController,
    ],
    guards=[authenticated, known_parameters],
    middleware=[DefineMiddleware(Writes, begin_attempt=Attempt.of)],
)


def create_app() -> Litestar:
    """The whole service, as an ASGI application."""
    set_up_logging(settings)
    allow_many_connections()
    app = Litestar(
        [v1, MediaController, HealthController, ProblemController, get_root, get_openapi, ASSETS, admin],
        dependencies={"user": Provide(current_user)},
        exception_handlers={Exception: answer_problem},
        lifespan=[
            lambda _: access_log(),
            lambda _: pool(),
            lambda _: valkey_connection(),
            lambda _: mail_worker(mint_token),
        ],
        logging_config=None,
        openapi_config=OPENAPI,
        request_class=StrictRequest,
        multipart_form_part_limit=MAX_PARTS,
        request_max_body_size=MAX_BODY,
    )
    app.asgi_handler = _in_front_of(app)
    return app


def _in_front_of(app: Litestar) -> ASGIApp:
    limited = RateLimit(RateLimit(Options(app.asgi_handler, app.asgi_router), WRITES), READS)
    doorway: ASGIApp = Doorway(Overload(Authentication(limited, identify), settings.max_requests_in_flight), settings)
    if settings.trusted_proxies:
        # uvicorn and Litestar each have ASGI types of their own
        return ProxyHeadersMiddleware(doorway, list(settings.trusted_proxies))  # type: ignore[arg-type, return-value]
    return doorway


app = create_app()
