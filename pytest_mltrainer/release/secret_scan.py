"""Looks for keys and tokens in the files of a project, and proves each time that it can see."""

import math
import random
import re
import string
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

LIMIT_FILE_BYTES = 5_000_000
TIMEOUT_S = 60.0
ALLOWED = "pragma: allowlist secret"
"""On a line of its own finding: a person has looked (the mark that detect-secrets uses as well)."""
LEAST_ENTROPY = 3.0
"""Bits a character; words and placeholders lie below, random keys of 16 characters above 3.2."""
LETTERS = string.ascii_letters + string.digits
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
# `tokenizer = "..."` is no secret: the word stands alone, or between underscores. Nor is a value
# without a digit: names and placeholders have none, generated keys do.
_ASSIGNED = re.compile(
    r"""(?i)(?<![a-z])(?:password|passwd|passphrase|secret|token|api_?key|access_?key|credentials?)"""
    r"""(?:_\w+)?["']?\s*[:=]\s*["']((?=[^"']*\d)[^"'\s]{12,})["']"""
)
_URL = re.compile(r"""[a-z][a-z0-9+.-]*://[^/\s:@'"]+:([^/\s@'"${}<>]{6,})@""")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a kind of secret looks like, and how to make one up: the canary of the scan."""

    name: str
    pattern: re.Pattern[str]
    canary: Callable[[random.Random], str]
    least_entropy: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line that holds what looks like a secret; the secret itself is not repeated."""

    path: str
    line: int
    rule: str

    def text(self) -> str:
        """`settings.py:3 AWS access key`."""
        return f"{self.path}:{self.line} {self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretScan:
    """What a scan has read and found; `allowed` are findings that a person has marked as none."""

    files: int
    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    unread: tuple[str, ...]
    blind: tuple[str, ...]
    """Rules that have missed the canary of this very scan."""


def _some(prefix: str, length: int, letters: str = LETTERS) -> Callable[[random.Random], str]:
    return lambda chance: prefix + "".join(chance.choices(letters, k=length))


def _token(prefix: str, length: int) -> tuple[re.Pattern[str], Callable[[random.Random], str]]:
    pattern = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(prefix)}[A-Za-z0-9_-]{{{length},}}")
    return pattern, _some(prefix, length)


def _private_key(chance: random.Random) -> str:
    # In parts, so that this file itself holds none.
    return "-----BEGIN " + "OPENSSH PRIVATE" + " KEY-----" + _some("", 40)(chance)


def _assignment(chance: random.Random) -> str:
    return f'db_password = "{_some("", 24)(chance)}{chance.randrange(10)}"'


def _url(chance: random.Random) -> str:
    return f"postgres://service:{_some('', 16)(chance)}@db.example"


def _jwt(chance: random.Random) -> str:
    return ".".join((_some("eyJ", 20)(chance), _some("eyJ", 30)(chance), _some("", 40)(chance)))


RULES = (
    Rule("private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"), _private_key),
    Rule(
        "AWS access key",
        re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
        _some("AKIA", 16, string.ascii_uppercase + string.digits),
    ),
    Rule(
        "GitHub token",
        re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{60,})"),
        _some("ghp_", 36),
    ),
    Rule("GitLab token", *_token("glpat-", 20)),
    Rule("Hugging Face token", *_token("hf_", 30)),
    Rule("PyPI token", *_token("pypi-", 60)),
    Rule("Google API key", *_token("AIza", 35)),
    Rule("Slack token", re.compile(r"xox[abprs]-[A-Za-z0-9-]{10,}"), _some("xoxb-", 24)),
    Rule("Stripe key", re.compile(r"[sr]k_live_[A-Za-z0-9]{20,}"), _some("sk_live_", 24)),
    Rule("API key", *_token("sk-", 32), LEAST_ENTROPY),
    Rule(
        "JSON web token",
        re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
        _jwt,
    ),
    Rule("password in a URL", _URL, _url, LEAST_ENTROPY),
    Rule("assigned secret", _ASSIGNED, _assignment, LEAST_ENTROPY),
)


def scan_project(
    root: Path, *, without: Sequence[Path] = (), not_secrets: Sequence[str] = ()
) -> SecretScan:
    """Scan every file that git tracks or would track; without git, every file that is not hidden.

    Folders in `without` are left out, files above 5 MB and binary ones are not read; the former
    are listed. History is not looked at: a secret that was ever committed must be revoked.
    """
    findings: list[Finding] = []
    allowed: list[Finding] = []
    unread: list[str] = []
    read = 0
    for path in _files(root):
        if path.is_symlink() or any(path.is_relative_to(folder) for folder in without):
            continue
        name = path.relative_to(root).as_posix()
        if path.stat().st_size > LIMIT_FILE_BYTES:
            unread.append(name)
            continue
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        read += 1
        is_allowed = any(fnmatch(name, pattern) for pattern in not_secrets)
        for finding, is_marked in scan_text(name, content.decode(errors="replace")):
            (allowed if is_allowed or is_marked else findings).append(finding)
    return SecretScan(
        files=read,
        findings=tuple(findings),
        allowed=tuple(allowed),
        unread=tuple(unread),
        blind=blind_rules(),
    )


def scan_text(name: str, text: str) -> Iterator[tuple[Finding, bool]]:
    """What looks like a secret in a text, and whether its line is marked as allowed."""
    for number, line in enumerate(text.splitlines(), start=1):
        for rule in RULES:
            found = rule.pattern.search(line)
            if found and entropy(found.group(found.lastindex or 0)) >= rule.least_entropy:
                yield Finding(path=name, line=number, rule=rule.name), ALLOWED in line


def blind_rules() -> tuple[str, ...]:
    """The rules that miss a fresh canary of theirs in the middle of a file; none when all see."""
    chance = random.SystemRandom()
    blind = []
    for rule in RULES:
        text = f"first line\nvalue = 1  # {rule.canary(chance)} \nlast line\n"
        if not any(entry.rule == rule.name for entry, _ in scan_text("canary", text)):
            blind.append(rule.name)
    return tuple(blind)


def entropy(text: str) -> float:
    """Shannon's entropy of the characters of a text, in bits a character; 0 for none."""
    counts = Counter(text).values()
    return sum(n / len(text) * math.log2(len(text) / n) for n in counts)


def _files(root: Path) -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        listed = b""
    if not listed:  # No git, or a copy in a folder that the repository around it ignores.
        return sorted(path for path in root.rglob("*") if path.is_file() and _is_own(path, root))
    names = listed.decode(errors="surrogateescape").split("\0")
    return [root / name for name in names if name and (root / name).is_file()]


def _is_own(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    return not any(part in _SKIPPED or part.startswith(".") for part in parts[:-1])
