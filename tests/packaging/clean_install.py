"""Build the distributions, install the wheel elsewhere, and use it as a first user does.

usage: clean_install.py REPOSITORY. Ends with the exit status of the first command that fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main(repository: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mltrainer-clean-install-") as name:
        elsewhere = Path(name)
        distributions = elsewhere / "dist"
        # Without --wheel or --sdist the wheel is made from the sdist, as an installer would.
        run(sys.executable, "-m", "build", "--quiet", "--outdir", distributions, repository)
        (wheel,) = distributions.glob("*.whl")
        venv.create(elsewhere / "venv", with_pip=True)
        programs = elsewhere / "venv" / "bin"
        run(programs / "pip", "install", "--quiet", wheel)
        project = elsewhere / "project"
        shutil.copytree(
            repository / "example_project",
            project,
            ignore=shutil.ignore_patterns(".*", "__pycache__"),
        )
        # Awaits signatures, which release.py gives with throw-away keys.
        run(programs / "pytest", "--phase=finalization", cwd=project, wanted=1)
        run(programs / "python", "release.py", cwd=project)


def run(*command: str | Path, cwd: Path | None = None, wanted: int = 0) -> None:
    """Run it with its output shown; end where its status is not the wanted one."""
    print("$", *command, flush=True)
    # A virtual environment that tox activated for us must not reach into the new one.
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    status = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if status != wanted:
        sys.exit(status or 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
