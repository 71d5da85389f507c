"""A pipeline's graph as Mermaid text (its flowchart syntax, read November 2026); nothing is sent anywhere."""

import re
from typing import Any


def to_mermaid(pipeline: Any) -> str:
    """`pipeline`: what has a `graph`, a networkx graph of components. Raises TypeError when it has none."""
    graph = getattr(pipeline, "graph", None)
    if graph is None or not hasattr(graph, "edges"):
        raise TypeError(f"{type(pipeline).__name__} has no graph")
    ids = {name: f"c{number}" for number, name in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for name, data in graph.nodes(data=True):
        kind = type(data.get("instance")).__name__
        lines.append(f'    {ids[name]}["{_quote(name)}<br><small>{_quote(kind)}</small>"]')
    for sender, receiver, data in graph.edges(data=True):
        label = f"{data['from_socket'].name} → {data['to_socket'].name}"
        lines.append(f'    {ids[sender]} -- "{_quote(label)}" --> {ids[receiver]}')
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Mermaid reads entities inside of quotes, and nothing else is safe there."""
    return re.sub(r"[^\w .,:→-]", lambda match: f"#{ord(match[0])};", text)
