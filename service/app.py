"""The contents page: every controller, the v1 router, and the middleware in its order."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, cast

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
    TokenController,
)
from service.auth.email_links import mint_token
from service.auth.token_cache import identify
from service.background import exempt_from_collection
from service.callers import Scope
from service.cards.controller import CardController
from service.cards.imports.controller import ImportController
from service.cards.schemas import Format
from service.changes.controller import ChangeController
from service.changes.schemas import ChangeKind
from service.changes.streams import change_streams
from service.characters.bulk import BulkController
from service.characters.controller import CharacterController
from service.characters.copies import CopyController
from service.characters.portraits import PortraitController
from service.characters.prompts import PromptController
from service.characters.validation import ValidationController
from service.database.replicas import REPLICAS
from service.database.startup import pool
from service.exports.controller import ExportController
from service.health.access import may_name_any_host
from service.health.controller import HealthController
from service.health.metrics import metrics_worker
from service.idempotency.queries import Attempt
from service.limits.budget import return_freed_memory
from service.limits.rate_limits import READS, TOKEN_LOOK_UPS, WRITES
from service.limits.valkey import connection as valkey_connection
from service.log import set_up_logging
from service.mail.worker import mail_worker
from service.media.controller import MediaController
from service.media.schemas import Size
from service.relationships.controller import RelationshipController
from service.relationships.graph.controller import GraphController
from service.relationships.types import Category, TypeName
from service.revisions.controller import RevisionController
from service.schemas import Style, Visibility
from service.settings import settings
from service.template_migrations.controller import TemplateMigrationController
from service.templates.controller import TemplateController
from service.templates.versions.controller import VersionController
from service.trash.controller import TrashController
from service.users.avatars import AvatarController
from service.users.controller import UserController
from service.users.usage import UsageController
from service.web.application import Application
from service.web.docs import ASSETS, get_openapi, get_root
from service.web.guards import authenticated, current_user, known_parameters
from service.web.guide_pages import GuideController
from service.web.middleware.access_log import AccessLog
from service.web.middleware.authentication import Authentication
from service.web.middleware.checks import Checks
from service.web.middleware.compression import Compression
from service.web.middleware.conditional import Conditional, Head
from service.web.middleware.content_encoding import check_content_encoding
from service.web.middleware.cors import Cors
from service.web.middleware.failures import Failures
from service.web.middleware.hosts import Hosts
from service.web.middleware.load_shedding import LoadShedding, allow_many_connections
from service.web.middleware.options import Options
from service.web.middleware.rate_limit import RateLimits
from service.web.middleware.replica_reads import ReplicaReads
from service.web.middleware.request_id import RequestId
from service.web.middleware.security_headers import SecurityHeaders
from service.web.middleware.single_headers import check_single_headers
from service.web.middleware.size_limits import check_sizes
from service.web.middleware.slow_readers import SlowReaders
from service.web.middleware.uploads import Uploads
from service.web.middleware.websockets import RejectWebSockets
from service.web.middleware.writes import Writes
from service.web.openapi_config import OPENAPI
from service.web.problem_pages import ProblemController
from service.web.problems import answer_problem
from service.web.requests import MAX_JSON, MAX_PARTS, StrictRequest

traces_middleware: list[Any] = []
traces_lifespan: list[Any] = []
if settings.otel_exporter_otlp_endpoint:  # without it, nothing of OpenTelemetry is imported
    from service.traces import exported_traces
    from service.web.middleware.traces import Traces

    traces_middleware.append(Traces)
    traces_lifespan.append(lambda _: exported_traces())

ENUMS = {
    "ChangeKind": ChangeKind,
    "Style": Style,
    "Visibility": Visibility,
    "Scope": Scope,
    "RelationshipType": TypeName,
    "RelationshipCategory": Category,
    "PictureSize": Size,
    "CardFormat": Format,
}  # which the OpenAPI document names

PAGES: list[Any] = [ProblemController, GuideController, get_root, get_openapi, ASSETS]

v1 = Router(
    "/v1",
    route_handlers=[
        UserController,
        AvatarController,
        UsageController,
        AccountController,
        ExportController,
        SessionController,
        ApiKeyController,
        TokenController,
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
        TemplateMigrationController,
        RelationshipController,
        GraphController,
    ],
    guards=[authenticated, known_parameters],
    middleware=[DefineMiddleware(Writes, begin_attempt=Attempt.of)],
)


def create_app() -> Litestar:
    """The service as an ASGI application."""
    set_up_logging(settings)
    allow_many_connections()
    return_freed_memory()
    app = Application(
        [v1, MediaController, HealthController, *PAGES, admin],
        dependencies={"user": Provide(current_user)},
        exception_handlers={Exception: answer_problem},
        lifespan=[
            *traces_lifespan,
            lambda _: pool(),
            *([lambda _: REPLICAS.watched()] if settings.database_replica_urls else []),
            lambda _: valkey_connection(),
            lambda _: mail_worker(mint_token),
            lambda _: change_streams(),
            lambda _: metrics_worker(),
        ],
        on_startup=[exempt_from_collection],
        logging_config=None,
        openapi_config=OPENAPI,
        opt={"enums": ENUMS},
        request_class=StrictRequest,
        multipart_form_part_limit=MAX_PARTS,
        request_max_body_size=MAX_JSON,
    )
    app.asgi_handler = _with_middleware(app)
    return app


def _with_middleware(app: Litestar) -> ASGIApp:
    """The middleware around Litestar, because Litestar's own sees no unknown path, no wrong method and no OPTIONS."""
    hosts = Hosts(settings.allowed_hosts, exempt=may_name_any_host)
    has_cors = bool(settings.cors_origins) or not settings.in_production
    middleware: list[Callable[[ASGIApp], ASGIApp]] = [  # the outermost first
        RejectWebSockets,
        RequestId,
        *traces_middleware,
        AccessLog,
        *([partial(Cors, origins=settings.cors_origins, local=not settings.in_production)] if has_cors else []),
        partial(SecurityHeaders, vary=[b"Accept-Encoding", *([b"Origin"] if has_cors else [])]),
        Head,
        SlowReaders,
        Compression,
        Conditional,
        Failures,
        partial(Checks, checks=[check_sizes, check_single_headers, check_content_encoding, hosts.check]),
        partial(LoadShedding, max_in_flight=settings.max_requests_in_flight),
        Uploads,
        partial(Authentication, identify=identify, look_ups=TOKEN_LOOK_UPS),
        partial(RateLimits, reads=READS, writes=WRITES),
        *([ReplicaReads] if settings.database_replica_urls else []),
        partial(Options, router=app.asgi_router),
    ]
    outermost = reduce(lambda inner, wrap: wrap(inner), reversed(middleware), app.asgi_handler)
    if settings.trusted_proxies:
        behind_proxy: Any = ProxyHeadersMiddleware  # uvicorn and Litestar each define their own ASGI types
        return cast("ASGIApp", behind_proxy(outermost, list(settings.trusted_proxies)))
    return outermost


app = create_app()
