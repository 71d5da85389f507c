"""Where every object is made and joined.

request: socket → server → app → middleware/* → routes/* → signature/protocols → registry.get → invoke → wrapper.run_*
         → stream → protocols/*.encode → send
wrapper: wrappers/<name>/ → loader → signature → deployer → registry.put → openapi
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from gateway.compat import hayhooks
from gateway.deployer import Deployer
from gateway.errors import GatewayError
from gateway.files import FileStore
from gateway.invoke import Invoker
from gateway.middleware.catch import CatchMiddleware
from gateway.middleware.linger import LingerMiddleware
from gateway.middleware.observe import ObserveMiddleware
from gateway.registry import Registry
from gateway.routes.body import BodyReader
from gateway.routes.dispatch import Dispatcher
from gateway.routes.docs import DocsEndpoints
from gateway.routes.files import FilesEndpoints, UploadEndpoint
from gateway.routes.openai import ChatEndpoint, EmbeddingsEndpoint, ModelsEndpoints, ResponsesEndpoint
from gateway.routes.problem import ProblemRenderer
from gateway.routes.reply import ReplyMaker
from gateway.routes.run import RunEndpoint, SchemaEndpoint
from gateway.routes.status import StatusEndpoints
from gateway.settings import Settings
from gateway.state import State
from gateway.telemetry.log import log
from gateway.thread import ThreadPool

Doors = tuple[Registry, Dispatcher, BodyReader, ReplyMaker]  # what every endpoint that runs a wrapper stands on


def create_app(settings: Settings) -> Starlette:
    """An ASGI app that serves `settings.wrappers_dir`. Loading begins with its lifespan and goes on while it serves.

    `app.state` has `registry` (what is deployed), `deployer` (when all has been loaded) and `invoker` (drain).
    """
    pool = ThreadPool("gateway")
    registry = Registry()
    deployer = Deployer(settings, registry, pool)
    invoker = Invoker(pool, buffer_chunks=settings.stream_buffer_chunks, buffer_bytes=settings.stream_buffer_bytes)
    problems = ProblemRenderer(show_tracebacks=settings.show_tracebacks)
    state = State(settings.state_dir or settings.wrappers_dir / ".gateway")
    store = FileStore(state)
    doors: Doors = (registry, Dispatcher(invoker, store), BodyReader(settings, pool), ReplyMaker(settings, problems))
    run = RunEndpoint(*doors)
    schema = SchemaEndpoint(registry)
    status = StatusEndpoints(registry, deployer, invoker)
    docs = DocsEndpoints(registry)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        hayhooks.install()
        loading = asyncio.create_task(deployer.load_all())
        loading.add_done_callback(_log_failure)
        yield
        loading.cancel()
        await deployer.close_all()
        await pool.call(state.close)

    app = Starlette(
        routes=[
            Route("/{name}/run", run, methods=["POST"]),
            *_openai_routes(doors, store, pool),
            Route("/livez", status.live),
            Route("/readyz", status.ready),
            Route("/status", status.all),
            Route("/status/{name}", status.one),
            Route("/openapi.json", docs.json),
            Route("/openapi.yaml", docs.yaml),
            Route("/docs", docs.page),
            Route("/{name}/schema", schema.handle),
        ],
        middleware=[
            Middleware(LingerMiddleware),
            Middleware(ObserveMiddleware, access_log=settings.access_log),
            Middleware(CatchMiddleware, respond=problems.response),
        ],
        exception_handlers={
            GatewayError: problems.handle,
            HTTPException: problems.handle,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # its address would be made of whatever Host the caller has sent
    app.state.registry = registry
    app.state.deployer = deployer
    app.state.invoker = invoker
    return app


def _openai_routes(doors: Doors, store: FileStore, pool: ThreadPool) -> list[Route]:
    """OpenAI's paths, and Hayhooks' without `/v1`.

    Without `/v1` a file's id begins with `file-`: a wrapper may be called `files`, and has its paths below that name.
    """
    chat = ChatEndpoint(*doors)
    models = ModelsEndpoints(doors[0])
    files = FilesEndpoints(doors[1], doors[3], store, pool)
    table = (
        ("/chat/completions", chat, "POST"),
        ("/responses", ResponsesEndpoint(*doors), "POST"),
        ("/embeddings", EmbeddingsEndpoint(*doors), "POST"),
        ("/models", models.all, "GET"),
        ("/models/{model}", models.one, "GET"),
        ("/files", UploadEndpoint(*doors, store, pool), "POST"),
        ("/files", files.page, "GET"),
        ("/files/{file_id}", files.one, "GET"),
        ("/files/{file_id}", files.delete, "DELETE"),
        ("/files/{file_id}/content", files.content, "GET"),
    )
    return [
        Route("/{name}/chat", chat, methods=["POST"]),
        *(Route(f"/v1{path}", endpoint, methods=[method]) for path, endpoint, method in table),
        *(
            Route(path.replace("{file_id}", "file-{key}"), endpoint, methods=[method])
            for path, endpoint, method in table
        ),
    ]


def _log_failure(loading: "asyncio.Task[None]") -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        log.error("loading the wrappers failed", exc_info=error)
