"""git in a folder of the code under test, without hooks."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Hooks may do anything. `git bisect` of git 2.39 runs those of a repository
# nevertheless: bisects need a repository that has none.
_CONFIGURATION = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),
    *("-c", "log.showSignature=false"),
)


@dataclass(frozen=True)
class GitFolder:
    """git in a folder."""

    folder: Path
    # Whether git must not look for a repository that encloses the folder.
    private: bool = False

    def ask(self, *arguments: str) -> str | None:
        """Return what git prints, None if it fails."""
        done = self.run(arguments)
        return None if done.returncode else done.stdout.strip()

    def run(
        self, arguments: tuple[str, ...]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; nothing is raised where it fails."""
        # A hook or an alias sets GIT_DIR and more: another repository.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
        }
        if self.private:
            kept["GIT_CEILING_DIRECTORIES"] = str(self.folder.parent)
        return subprocess.run(
            ["git", *_CONFIGURATION, "-C", str(self.folder), *arguments],
            # What git prints is parsed, so it must be in one language.
            env=kept | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
