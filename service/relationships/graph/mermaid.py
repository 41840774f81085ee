"""A graph as a Mermaid flowchart, which many editors and viewers draw."""

from service.relationships.graph.schemas import Graph


def draw(graph: Graph) -> str:
    """The text of a ``graph LR``: a node for each character, an arrow for each relationship."""
    names = {node.id: f"n{index}" for index, node in enumerate(graph.nodes)}
    lines = ["graph LR"]
    lines += [f'    {names[node.id]}["{_escaped(node.name)}"]' for node in graph.nodes]
    lines += [
        f'    {names[edge.source]} -- "{_escaped(edge.label or edge.type.replace("_", " "))}" --> {names[edge.target]}'
        for edge in graph.edges
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Mermaid's entities: #, a code, and a semicolon. Everything but letters, digits and spaces, to be safe."""
    return "".join(letter if letter.isalnum() or letter == " " else f"#{ord(letter)};" for letter in text)
