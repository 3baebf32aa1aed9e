"""How the table is read."""

from pathlib import Path


def read_rows(path: Path) -> list[tuple[float, float, int]]:
    """The rows of the table: two numbers and a class."""
    rows = []
    for line in path.read_text().splitlines():
        first, second, label = line.split(",")
        rows.append((float(first), float(second), int(label)))
    return rows
