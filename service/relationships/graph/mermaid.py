"""Writes a graph as the text of a Mermaid flowchart."""

from service.relationships.graph.schemas import Graph
from service.relationships.types import TYPES


def draw(graph: Graph) -> str:
    """A ``graph LR`` with a node for each character and an arrow for each relationship, without a head if its type
    or both labels of a custom one are the same from either side."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["graph LR"]
    lines += [f'    {names[node.id]}["{_escape(node.name)}"]' for node in graph.nodes]
    for edge in graph.edges:
        label = _escape(edge.label or edge.type.replace("_", " "))
        is_symmetric = TYPES[edge.type][0].symmetric and edge.label == edge.inverse_label
        line = "---" if is_symmetric else "-->"
        lines.append(f'    {names[edge.source]} -- "{label}" {line} {names[edge.target]}')
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Every character but letters, digits and spaces as a Mermaid entity, ``#code;``: none can end the quotes."""
    return "".join(char if char.isalnum() or char == " " else f"#{ord(char)};" for char in text)
