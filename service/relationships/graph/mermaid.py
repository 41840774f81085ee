"""Writes a graph as the text of a Mermaid flowchart."""

from service.relationships.graph.schemas import Graph


def draw(graph: Graph) -> str:
    """A ``graph LR`` with a node for each character and an arrow for each relationship."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["graph LR"]
    lines += [f'    {names[node.id]}["{_escape(node.name)}"]' for node in graph.nodes]
    lines += [
        f'    {names[edge.source]} -- "{_escape(edge.label or edge.type.replace("_", " "))}" --> {names[edge.target]}'
        for edge in graph.edges
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Every character but letters, digits and spaces as a Mermaid entity, ``#code;``: none can end the quotes."""
    return "".join(char if char.isalnum() or char == " " else f"#{ord(char)};" for char in text)
