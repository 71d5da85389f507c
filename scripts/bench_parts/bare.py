"""The yardstick, `python bare.py PORT`: the wrappers' work (not Haystack's) on bare Starlette and the same Hypercorn.

No request id, no log, no limits, no validation: what the ground below costs by itself.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def answer(text: str, top_k: int = 3, pause_s: float = 0.0) -> dict[str, Any]:
    if pause_s:
        time.sleep(pause_s)
    return {"answer": "You said: " + text, "top_k": top_k}


async def json_sync(request: Request) -> Response:
    arguments = await request.json()
    return JSONResponse({"result": await run_in_threadpool(answer, **arguments)})


async def json_async(request: Request) -> Response:
    return JSONResponse({"result": answer(**await request.json())})


def tokens(chunks: int = 100) -> Iterator[str]:
    for number in range(chunks):
        yield f"data: token {number}\n\n"


async def tokens_async(chunks: int = 100) -> AsyncIterator[str]:
    for number in range(chunks):
        yield f"data: token {number}\n\n"


async def sse_sync(request: Request) -> Response:
    return StreamingResponse(tokens(**await request.json()), media_type="text/event-stream")


async def sse_async(request: Request) -> Response:
    return StreamingResponse(tokens_async(**await request.json()), media_type="text/event-stream")


async def ready(request: Request) -> Response:
    return Response()


def main(port: int) -> None:
    endpoints = (json_sync, json_async, sse_sync, sse_async)
    routes = [Route(f"/{endpoint.__name__}/run", endpoint, methods=["POST"]) for endpoint in endpoints]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = 1_000_000  # as the gateway has it
    asyncio.run(serve(Starlette(routes=[*routes, Route("/readyz", ready)]), config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]))
