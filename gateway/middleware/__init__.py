"""Pure ASGI middleware; their order is the list in `app.py`."""
