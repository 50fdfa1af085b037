"""The service stopped at named points (src/base/pause.h), to kill what stands there.

    service = paused_service(make_slipway)             # the program test/slipway-paused
    with service.pauses.at("flip_recorded") as point:
        …                                              # begin what comes by there
        pid = point.reached()                          # waits; the process that stands there
        service.kill(pid)                              # or do something else meanwhile
                                                       # leaving the block lets it go on
    with service.pauses.failing_syncs(pid):            # each fsync, fdatasync and msync of that process fails
"""

import os
from contextlib import contextmanager
from pathlib import Path

from slipway import ROOT, eventually, lives

BUILD = Path(os.environ.get("SLIPWAY_BUILD", ROOT / "build"))
PROGRAM = BUILD / "test" / "slipway-paused"


class Point:
    def __init__(self, folder, name):
        self.path = folder / name
        self.mark = folder / f"{name}.reached"

    def __enter__(self):
        self.mark.unlink(missing_ok=True)
        self.path.touch()
        return self

    def __exit__(self, *_):
        self.release()

    def release(self):
        self.path.unlink(missing_ok=True)

    def reached(self):
        """The process that stands there now."""
        def stands():
            pid = int(self.mark.read_text())
            return pid if lives(pid) else None

        return eventually(stands, what=f"a process comes to {self.path.name}")

    def was_reached(self):
        return self.mark.exists()


class Pauses:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def at(self, name):
        return Point(self.folder, name)


    @contextmanager
    def failing_syncs(self, pid):
        file, part = self.folder / "failing_sync", self.folder / "failing_sync.part"
        part.write_text(str(pid))
        part.rename(file)
        try:
            yield
        finally:
            file.unlink()


def paused_service(make_slipway, tmp_path, **settings):
    pauses = Pauses(tmp_path / "pauses")
    service = make_slipway(program=str(PROGRAM), environment={"SLIPWAY_PAUSE_POINTS": str(pauses.folder)}, **settings)
    service.pauses = pauses
    return service.start()
