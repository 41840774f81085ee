"""Writes a graph as the text of a Mermaid flowchart."""

import msgspec

from service.relationships.graph.schemas import Edge, Node
from service.relationships.types import TYPES


def draw(nodes_as_json: str, edges_as_json: str) -> str:
    """A ``graph LR`` with a node for each character and an arrow for each relationship, without a head if its type
    or both labels of a custom one are the same from either side."""
    nodes = msgspec.json.decode(nodes_as_json, type=list[Node])
    edges = msgspec.json.decode(edges_as_json, type=list[Edge])
    names = {node.id: f"n{index}" for index, node in enumerate(nodes)}
    lines = ["graph LR"]
    lines += [f'    {names[node.id]}["{_escape(node.name)}"]' for node in nodes]
    for edge in edges:
        label = _escape(edge.label or edge.type.replace("_", " "))
        is_symmetric = TYPES[edge.type][0].symmetric and edge.label == edge.inverse_label
        line = "---" if is_symmetric else "-->"
        lines.append(f'    {names[edge.source]} -- "{label}" {line} {names[edge.target]}')
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Every character but letters, digits and spaces as a Mermaid entity, ``#code;``: none can end the quotes."""
    return "".join(char if char.isalnum() or char == " " else f"#{ord(char)};" for char in text)
