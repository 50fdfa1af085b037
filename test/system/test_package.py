"""The Debian packages, installed in a fresh Debian (debian.py), and the service as its unit has systemd run it."""

import configparser
import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import httpx
import pytest

import models as model
from debian import Debian, host
from slipway import ROOT, eventually
from test_library import BUILD

pytestmark = pytest.mark.timeout(600)  # the first time, a Debian is fetched

STATE = "/var/lib/slipway"
UNIT = "/usr/lib/systemd/system/slipway.service"
EXPOSURE = 20  # of systemd-analyze security, in tenths: 2.0 of 10
PAGES = ["man1/slipway.1", "man3/libslipway.3", "man5/slipway.conf.5", "man8/slipway-serve.8"]
COMPLETIONS = ["bash-completion/completions/slipway", "zsh/vendor-completions/_slipway", "fish/vendor_completions.d/slipway.fish"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """name → archive, as `make package` makes them of what is built"""
    folder = tmp_path_factory.mktemp("packages")
    done = host("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", folder, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return {host("dpkg-deb", "-f", path, "Package").stdout.strip(): path for path in folder.glob("*.deb")}


@pytest.fixture(scope="module")
def debian(tmp_path_factory, packages):
    with Debian(tmp_path_factory.mktemp("debian") / "root") as fresh:
        for archive in packages.values():
            fresh.copy(archive, "/root")
        yield fresh


@pytest.fixture(scope="module")
def installed(debian, packages):
    debian.install(*(f"/root/{archive.name}" for archive in packages.values()))
    return debian


def field(archive, name):
    return host("dpkg-deb", "-f", archive, name).stdout.strip()


def test_there_are_three_packages_that_name_what_they_need(packages):
    assert set(packages) == {"slipway", "libslipway0.1", "libslipway-dev"}
    assert re.search(r"libcurl4.*libuv1|libuv1.*libcurl4", field(packages["slipway"], "Depends"))
    assert field(packages["libslipway-dev"], "Depends").startswith("libslipway0.1 (= ")
    assert "libc6" in field(packages["libslipway0.1"], "Depends")
    for archive in packages.values():
        assert len(field(archive, "Description").splitlines()) > 1, archive


def test_what_is_installed_is_where_it_belongs(installed):
    assert re.match(r"slipway \d+\.\d+\.\d+", installed.run("slipway version").stdout)
    for page in PAGES:
        assert installed.path(f"/usr/share/man/{page}.gz").is_file()
    for completion in COMPLETIONS:
        assert "slipway" in installed.path(f"/usr/share/{completion}").read_text()
    assert "licenses" in installed.path("/usr/share/doc/slipway/copyright").read_text()
    assert installed.path("/usr/share/doc/slipway/onnxruntime-notices.txt").stat().st_size > 100000
    assert installed.run(f"stat -c '%U %a' {STATE}").stdout == "slipway 700\n"
    assert "/etc/slipway/slipway.conf" in installed.run("dpkg-query -W -f '${Conffiles}' slipway").stdout
    assert installed.run("readlink /etc/systemd/system/multi-user.target.wants/slipway.service").stdout.strip().endswith(UNIT[4:])


def test_the_installed_settings_are_the_defaults(installed):
    text = installed.path("/etc/slipway/slipway.conf").read_text()
    assert not [line for line in text.splitlines() if line and not line.startswith("#")]
    names = re.findall(r'^SETTING\(\w+, \w+, (\w+),', (ROOT / "src/base/settings.def").read_text(), flags=re.M)
    assert re.findall(r"^#(\w+) =", text, flags=re.M) == names
    # Uncommented, every line is one that serve takes; it then says that the state folder cannot be made.
    installed.path("/root/all.conf").write_text(re.sub(r"^#(\w+ =.*)$", r"\1", text, flags=re.M))
    done = installed.run("slipway serve --settings /root/all.conf --state /proc/none", check=False)
    assert done.returncode == 5, done.stderr


def test_a_program_is_built_against_the_installed_library(installed, tmp_path):
    """pkg-config's file, header and library as they are unpacked; the compiler is the host's."""
    source = tmp_path / "version.c"
    source.write_text('#include <slipway.h>\n#include <stdio.h>\nint main(void) { return puts(slipway_version()) < 0; }\n')
    flags = host("pkg-config", "--define-prefix", "--cflags", "--libs", installed.path("/usr/lib/pkgconfig/slipway.pc")).stdout
    program = installed.path("/root/version")
    done = host("gcc", source, "-o", program, *flags.split(), "-Wl,--unresolved-symbols=ignore-in-shared-libs")
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d+\.\d+\.\d+", installed.run("/root/version").stdout)


# ---- the unit


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(ROOT / "packaging" / "slipway.service")
    return parser["Service"]


def test_systemd_finds_nothing_wrong_with_the_unit(installed):
    done = installed.run(f"systemd-analyze verify --man=no {UNIT}", check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_unit_leaves_little_exposed(installed):
    done = installed.run(f"systemd-analyze security --offline=yes --no-pager --threshold={EXPOSURE} {UNIT}", check=False)
    assert done.returncode == 0, done.stdout


def allowed_calls(debian):
    """What the unit's SystemCallFilter comes to."""
    sets, current = {}, None
    for line in debian.run("systemd-analyze syscall-filter --no-pager 2>/dev/null").stdout.splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            current.append(line.strip())

    def expand(name):
        return [call for inner in sets[name] for call in expand(inner)] if name.startswith("@") else [name]

    return sorted({call for name in ["@default", *unit()["SystemCallFilter"].split()] for call in expand(name)})


# ProtectSystem=strict with the StateDirectory, ProtectHome, PrivateTmp, PrivateDevices, ProtectKernelTunables
MOUNTS = f"""
mount -t tmpfs tmpfs /mnt
for device in null zero full random urandom tty; do : >/mnt/$device; mount --bind /dev/$device /mnt/$device; done
mount --move /mnt /dev
mount -n -o remount,bind,ro /
mount -n --bind {STATE} {STATE}; mount -n -o remount,bind,rw {STATE}
mount -n -t tmpfs -o mode=000 tmpfs /root; mount -n -t tmpfs -o mode=1777 tmpfs /tmp
mount -n --bind /proc/sys /proc/sys; mount -n -o remount,bind,ro /proc/sys
"""


class Manager:
    """What systemd is to the service: its unit's command line, user and confinement, and the socket it tells its state to."""

    def __init__(self, debian, port):
        self.debian = debian
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.settimeout(0.1)
        folder = os.open(debian.path("/run"), os.O_PATH)  # a name that is short enough
        self.notices.bind(f"/proc/self/fd/{folder}/notify")
        os.close(folder)
        os.chmod(debian.path("/run/notify"), 0o777)
        debian.path("/opt/allowed").write_text("\n".join(allowed_calls(debian)) + "\n")
        shutil.copy(BUILD / "test" / "confined", debian.path("/opt"))
        command = f"{unit()['ExecStart']} --listen=127.0.0.1:{port}"
        mounts = debian.path("/opt/mounts")
        mounts.write_text(f"""{MOUNTS}
cd {unit()['WorkingDirectory']}; umask {unit()['UMask']}
export NOTIFY_SOCKET=/run/notify
exec setpriv --reuid slipway --regid slipway --clear-groups --bounding-set=-all --inh-caps=-all \\
  /opt/confined /opt/allowed {command}
""")
        self.log = open(debian.path("/opt/log"), "wb")
        self.process = debian.start("exec unshare --mount --propagation unchanged sh -e /opt/mounts", stdout=self.log, stderr=self.log)

    def wait_for(self, notice):
        def has_come():
            try:
                return notice in self.notices.recv(4096).decode().split("\n")
            except TimeoutError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the service has ended with {self.process.returncode}")

        eventually(has_come, what=f"the service says {notice}")

    def main_pid(self):
        """On the host: the process that runs `serve` and is nobody's child among them."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (entry / "cmdline").exists():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[:2] == [b"/usr/bin/slipway", b"serve"] and (entry / "root").resolve() == self.debian.root.resolve():
                    return int(entry.name)
        return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_service_works_as_its_unit_confines_it(installed):
    """READY=1 comes; a model is deployed and answers from a confined runner; settings are read again, the program is
    replaced in place; STOPPING=1 comes, and the exit status is 0."""
    port = free_port()
    folder = installed.path(f"{STATE}/models")
    model.add_one(folder)
    manager = Manager(installed, port)
    try:
        manager.wait_for("READY=1")
        pid = eventually(manager.main_pid)
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^NoNewPrivs:\s1$", status, flags=re.M) and re.search(r"^CapEff:\s0+$", status, flags=re.M)
        assert not re.search(r"^Uid:\s0", status, flags=re.M)
        environment = f"SLIPWAY_URL=http://127.0.0.1:{port}"
        done = installed.run(f"{environment} slipway deploy add {STATE}/models/add-one --wait --timeout 60s", check=False)
        assert done.returncode == 0, done.stderr + installed.path("/opt/log").read_text()
        request = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})
        answer = json.loads(installed.run(f"{environment} slipway infer add '{request}'").stdout)
        assert answer["outputs"][0]["data"] == [2, 3, 4, 5]
        runner = [p for p in httpx.get(f"http://127.0.0.1:{port}/v1/processes").json() if p["role"] == "runner"]
        assert len(runner) == 1
        with open(installed.path("/etc/slipway/slipway.conf"), "a") as settings:
            settings.write("drain = 29s\n")
        os.kill(pid, signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        installed.run(f"slipway upgrade --url unix:{STATE}/control.sock")  # as the package's own script does it
        answer = json.loads(installed.run(f"{environment} slipway infer add '{request}'").stdout)
        assert answer["outputs"][0]["data"] == [2, 3, 4, 5]
        os.kill(pid, signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert manager.process.wait(60) == 0
    except BaseException:
        print(installed.path("/opt/log").read_text(errors="replace")[-4000:])
        raise
    finally:
        if manager.process.poll() is None:
            manager.process.kill()
        manager.notices.close()


# ---- the end (the last two, in this order)


def test_remove_keeps_state_and_settings(installed):
    installed.path(f"{STATE}/kept").write_text("")
    installed.run("apt-get -q -y -o Dpkg::Use-Pty=0 remove slipway")
    assert not installed.path("/usr/bin/slipway").exists() and not installed.path(UNIT).exists()
    assert installed.path(f"{STATE}/kept").exists()
    assert installed.path("/etc/slipway/slipway.conf").exists()


def test_purge_leaves_nothing_but_the_account(installed):
    installed.run("apt-get -q -y -o Dpkg::Use-Pty=0 purge slipway libslipway0.1 libslipway-dev")
    left = installed.run("find / -xdev -iname '*slipway*' ! -path '/root/*' ! -path '/proc/*'").stdout
    assert not left, left
    assert "slipway" in installed.path("/etc/passwd").read_text()
