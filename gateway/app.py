"""Where every object is made and joined.

request: socket → server → app → middleware/* → routes/* → signature/protocols → registry.get → invoke → wrapper.run_*
         → stream → protocols/*.encode → send
wrapper: wrappers/<name>/ → watcher → tracker → team → follower → preparer → loader → signature → registry.put
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from gateway.compat import hayhooks
from gateway.deployer import Deployer
from gateway.errors import Draining, GatewayError
from gateway.files import FileStore
from gateway.follower import Follower
from gateway.generations import Generations
from gateway.invoke import Invoker
from gateway.middleware.catch import CatchMiddleware
from gateway.middleware.linger import LingerMiddleware
from gateway.middleware.observe import ObserveMiddleware
from gateway.preparer import Preparer
from gateway.protocols.deploy import parse_files, parse_yaml
from gateway.registry import Registry
from gateway.routes.body import BodyReader
from gateway.routes.deploy import AdminEndpoints, DeployEndpoint
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
from gateway.team import Team
from gateway.telemetry.log import log
from gateway.thread import ThreadPool
from gateway.tracker import Tracker
from gateway.wait import first

Doors = tuple[Registry, Dispatcher, BodyReader, ReplyMaker]  # what every endpoint that runs a wrapper stands on


def create_app(settings: Settings, *, run_id: str = "", is_replacement: bool = False) -> Starlette:
    """An ASGI app that serves `settings.wrappers_dir`. Loading begins with its lifespan and goes on while it serves.

    `run_id`: see `Team`. `is_replacement`: others serve already, so that its lifespan begins when `opening` is set.
    `app.state` has `registry` (what is deployed), `tracker` (when all has been loaded), `invoker` (drain),
    `preparer` (to freeze what has been loaded), `team` (what the others serve) and `opening`.
    """
    opening = asyncio.Event()
    pool = ThreadPool("gateway")
    registry = Registry()
    state = State(settings.state_path)
    generations = Generations(state, settings.wrappers_dir.absolute())
    preparer = Preparer(settings, pool)
    follower = Follower(registry, pool, preparer, generations)
    team = Team(settings, state, pool, generations.records, follower, run_id)
    deployer = Deployer(settings.wrappers_dir.absolute(), registry, pool, generations, team)
    tracker = Tracker(settings, registry, pool, generations, team, deployer)
    invoker = Invoker(pool, buffer_chunks=settings.stream_buffer_chunks, buffer_bytes=settings.stream_buffer_bytes)
    problems = ProblemRenderer(show_tracebacks=settings.show_tracebacks)
    store = FileStore(state)
    bodies = BodyReader(settings, pool)
    doors: Doors = (registry, Dispatcher(invoker, store), bodies, ReplyMaker(settings, problems))
    app = Starlette(
        routes=[
            Route("/{name}/run", RunEndpoint(*doors), methods=["POST"]),
            *_openai_routes(doors, store, pool),
            *_admin_routes(deployer, invoker, bodies),
            *_status_routes(settings, registry, tracker, deployer, team, invoker),
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
        lifespan=_make_lifespan(
            settings, tracker, follower, team, invoker, state, pool, opening if is_replacement else None
        ),
    )
    app.router.redirect_slashes = False  # its address would be made of whatever Host the caller has sent
    app.state.registry = registry
    app.state.tracker = tracker
    app.state.invoker = invoker
    app.state.preparer = preparer
    app.state.team = team
    app.state.opening = opening
    return app


def _make_lifespan(
    settings: Settings,
    tracker: Tracker,
    follower: Follower,
    team: Team,
    invoker: Invoker,
    state: State,
    pool: ThreadPool,
    opening: asyncio.Event | None,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        hayhooks.install()
        stop = asyncio.Event()
        works = [tracker.load_all(), team.follow(), *([tracker.watch(stop)] if settings.watch else [])]
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            task.add_done_callback(_log_failure)
        try:
            if opening is not None:
                await first(opening, invoker.draining)
                if not opening.is_set():
                    raise Draining("it has never served")
            yield
        finally:
            stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await follower.close_all()
            await pool.call(state.close)

    return lifespan


def _status_routes(
    settings: Settings, registry: Registry, tracker: Tracker, deployer: Deployer, team: Team, invoker: Invoker
) -> list[Route]:
    status = StatusEndpoints(settings, registry, tracker, deployer, team, invoker)
    docs = DocsEndpoints(registry)
    return [
        Route("/livez", status.live),
        Route("/readyz", status.ready),
        Route("/status", status.all),
        Route("/status/{name}", status.one),
        Route("/draw/{name}", status.draw),
        Route("/openapi.json", docs.json),
        Route("/openapi.yaml", docs.yaml),
        Route("/docs", docs.page),
        Route("/{name}/schema", SchemaEndpoint(registry).handle),
    ]


def _admin_routes(deployer: Deployer, invoker: Invoker, bodies: BodyReader) -> list[Route]:
    admin = AdminEndpoints(deployer, invoker)
    return [
        Route("/deploy_files", DeployEndpoint(deployer, invoker, bodies, parse_files), methods=["POST"]),
        Route("/deploy-yaml", DeployEndpoint(deployer, invoker, bodies, parse_yaml), methods=["POST"]),
        Route("/undeploy/{name}", admin.undeploy, methods=["POST"]),
        Route("/rollback/{name}", admin.rollback, methods=["POST"]),
        Route("/restore/{name}", admin.restore, methods=["POST"]),
    ]


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


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("loading or watching the wrappers failed", exc_info=error)
