"""Waiting for the first of several events."""

import asyncio


async def first(*events: asyncio.Event) -> None:
    """Return when one of them is set."""
    waiting = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
