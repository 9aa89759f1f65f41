"""Small git repositories with a neural_lam in them."""

import hashlib
import os
import subprocess

WHO = {
    "GIT_AUTHOR_NAME": "A U Thor",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_AUTHOR_DATE": "2026-11-01T12:00:00+0000",
    "GIT_COMMITTER_NAME": "A U Thor",
    "GIT_COMMITTER_EMAIL": "author@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


class History:
    """A repository, and its commits by their subjects."""

    def __init__(self, folder):
        self.folder = folder
        self.commits = {}
        self._seconds = 0
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments):
        # Of equal times git's order would be that of the hashes.
        date = {"GIT_COMMITTER_DATE": f"2026-11-01T12:00:{self._seconds:02}Z"}
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            env={**os.environ, **WHO, **date},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def edit(self, name, old, new):
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), encoding="utf-8")

    def commit(self, subject):
        self._seconds += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={subject}")
        return self._named(subject)

    def merge(self, branch, subject, *, commit=True):
        self._seconds += 1
        options = [] if commit else ["--no-commit"]
        self.git("merge", "-q", "--no-ff", f"-m{subject}", *options, branch)
        return self._named(subject) if commit else None

    def _named(self, subject):
        self.commits[subject] = self.git("rev-parse", "HEAD")
        return self.commits[subject]

    def title(self, subject):
        short = self.git("log", "-1", "--format=%h", self.commits[subject])
        return f"{short} {subject}"

    def everything(self):
        """Return the hash of each file, git's own included."""
        # git makes one without a ref in it, where there is none.
        self.git("pack-refs")
        return {
            str(file.relative_to(self.folder)): hashlib.sha256(
                file.read_bytes()
            ).hexdigest()
            for file in sorted(self.folder.rglob("*"))
            if file.is_file()
        }
