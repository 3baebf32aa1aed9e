"""sha256 of files, values and Python sources; comments and layout of a source do not count."""

import ast
import hashlib
import json
from pathlib import Path

MISSING = "missing"


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of the file, or `missing`; constant memory."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return MISSING


def digest_value(value: object) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(text.encode())


def digest_source(path: Path) -> str:
    """sha256 of what a Python file means: of its syntax tree, so that comments are free.

    A file that is not Python, or does not parse, counts by its bytes. `missing` when not there.
    """
    if path.suffix != ".py":
        return sha256_file(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return MISSING
    try:
        return sha256_bytes(ast.dump(ast.parse(data)).encode())
    except (SyntaxError, ValueError, RecursionError):
        return sha256_bytes(data)
