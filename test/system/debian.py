"""A fresh Debian of the host's suite in a folder, to install packages in.

    with Debian(tmp_path / "debian") as debian:      # a copy of the one kept at build/debian-SUITE
        debian.copy(package, "/root")
        debian.install("/root/slipway.deb")
        debian.run("slipway version").stdout
        debian.start("...")                          # in the background, with the same processes and mounts in view

It is a chroot with processes and mounts of its own, which end with it. debootstrap makes the one that is kept, from the
mirror that apt uses here, in a minute or two; systemd is in it for its tools, and does not run."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from slipway import ROOT, eventually

MADE_OF = "minbase, ca-certificates, systemd"
ENTER = """
mount --make-rprivate / 2>/dev/null || :
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; mount --rbind /sys "$0/sys" 2>/dev/null || :
mount --bind "$1" "$0/var/cache/apt/archives"
exec sleep infinity
"""


def host(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def need(condition, sentence):
    """In CI a test that cannot run is a failure; elsewhere it is left out."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(sentence)


def suite():
    values = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return values["VERSION_CODENAME"].strip('"')


def mirror():
    rows = host("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").stdout
    found = [row.split()[0] for row in rows.splitlines() if row.split()[1:] == [suite(), "main"]]
    need(found, f"apt has no source for {suite()} main, so that no fresh Debian can be made")
    return found[0]


def apt_settings(root):
    """How apt reaches the network here: proxy, certificates, names."""
    for file in Path("/etc/apt/apt.conf.d").iterdir():
        if any(word in file.read_text(errors="replace").lower() for word in ("proxy", "ssl", "cainfo", "verify")):
            shutil.copy(file, root / "etc/apt/apt.conf.d")
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(file).exists():
            (root / file[1:]).unlink(missing_ok=True)
            shutil.copy(file, root / file[1:])


def kept():
    """build/debian-SUITE; made when it is not there."""
    folder = ROOT / "build" / f"debian-{suite()}"
    if (folder / ".from").exists() and (folder / ".from").read_text() == MADE_OF:
        return folder
    need(shutil.which("debootstrap"), "debootstrap is not installed: tools/install-deps test")
    part = folder.with_name(f".part.{folder.name}")
    for stale in (part, folder):
        shutil.rmtree(stale, ignore_errors=True)
    include = "--include=ca-certificates,systemd"
    done = host("debootstrap", "--variant=minbase", include, suite(), part, mirror(), timeout=480)
    need(done.returncode == 0, f"debootstrap failed: {done.stdout[-500:]}")
    apt_settings(part)
    host("chroot", part, "apt-get", "-q", "update", timeout=120)  # what fails here is tried again by install()
    (part / ".from").write_text(MADE_OF)
    part.rename(folder)
    return folder


class Debian:
    def __init__(self, folder):
        self.root = Path(folder)
        self._keeper = None
        self._started = []

    def __enter__(self):
        need(os.geteuid() == 0, "a fresh Debian needs root, for chroot and mounts")
        base = kept()
        archives = base.with_name(f"{base.name}-archives")
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        self.root.mkdir()
        assert host("cp", "-a", "--reflink=auto", f"{base}/.", self.root).returncode == 0
        apt_settings(self.root)
        (self.root / "etc/apt/apt.conf.d/99keep").write_text('Binary::apt-get::APT::Keep-Downloaded-Packages "true";\n'
                                                             'APT::Keep-Downloaded-Packages "true";\n')
        command = ["unshare", "--mount", "--propagation", "unchanged", "--pid", "--fork", "--kill-child",
                   "sh", "-ec", ENTER, str(self.root), str(archives)]
        self._keeper = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._inside = eventually(self._find_inside, 20, "the fresh Debian has its mounts")
        return self

    def _find_inside(self):
        if self._keeper.poll() is not None:
            need(False, f"this machine permits no mounts, so no fresh Debian: {self._keeper.stderr.read()}")
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
        return children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "sleep" and children[0]

    def __exit__(self, *_):
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._keeper.send_signal(signal.SIGKILL)
        self._keeper.wait()
        eventually(lambda: not Path(f"/proc/{self._inside}/root").exists(), 20, "the processes inside have ended")
        host("rm", "-rf", "--one-file-system", self.root)

    def _command(self, script):
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive",
                       "LANG=C.UTF-8"]
        proxies = [f"{k}={v}" for k, v in os.environ.items() if k.lower().endswith("_proxy")]
        return ["nsenter", "--target", self._inside, "--mount", "--pid", "chroot", str(self.root), *environment, *proxies,
                "sh", "-ec", f"cd /; {script}"]

    def run(self, script, check=True, timeout=120):
        done = host(*self._command(script), timeout=timeout)
        assert not check or done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, script, **options):
        process = subprocess.Popen(self._command(script), **options)
        self._started.append(process)
        return process

    def copy(self, path, folder):
        shutil.copytree(path, self.root / folder[1:] / Path(path).name) if Path(path).is_dir() else shutil.copy(
            path, self.root / folder[1:])

    def install(self, *packages):
        """With their dependencies. The kept lists may be older than the mirror: then once more with fresh ones."""
        command = f"apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install {' '.join(packages)}"
        if self.run(command, check=False).returncode != 0:
            self.run(f"apt-get -q update && {command}")

    def path(self, path):
        return self.root / path[1:]
