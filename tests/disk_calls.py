"""Records the system calls that decide what a power cut leaves: syncs and renames, in order."""

import os
from pathlib import Path


class DiskCalls(list):
    """One entry a call: ("sync", name, content) or ("rename", old name, new name).

    The content of a file is its bytes at that moment, that of a folder its sorted names. Names are
    relative to the folder that is recorded; calls elsewhere are not.

    Attributes:
        looks: If set, called at each sync; what it returns takes the place of the content.
    """

    def __init__(self, root: Path, monkeypatch) -> None:
        super().__init__()
        self.root, self.looks = root, None
        self.paths = {}
        self.open, self.rename, self.replace = os.open, os.rename, os.replace
        monkeypatch.setattr(os, "open", self._open)
        monkeypatch.setattr(os, "fsync", self._sync)
        monkeypatch.setattr(os, "fdatasync", self._sync)
        monkeypatch.setattr(os, "rename", lambda old, new: self._move(self.rename, old, new))
        monkeypatch.setattr(os, "replace", lambda old, new: self._move(self.replace, old, new))

    def _open(self, path, *arguments, **options):
        handle = self.open(path, *arguments, **options)
        self.paths[handle] = Path(path)
        return handle

    def _sync(self, handle):
        path = self.paths[handle]
        content = sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()  # noqa: PTH208
        if path.is_relative_to(self.root):
            self.append(("sync", self._name(path), self.looks() if self.looks else content))

    def _move(self, move, old, new):
        move(old, new)
        if Path(new).is_relative_to(self.root):
            self.append(("rename", self._name(Path(old)), self._name(Path(new))))

    def _name(self, path):
        return str(path.relative_to(self.root))
