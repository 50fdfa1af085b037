"""Where the kernel lacks a piece of the confinement, start-up says which, and a setting says whether that is allowed."""

import stat
import sys

import models as model

LANDLOCK_CREATE_RULESET, ENOSYS = 444, 38

# Installs a seccomp filter under which this system call does not exist, then becomes the program.
WRAPPER = """#!{python}
import ctypes, os, struct, sys
program = b"".join(struct.pack("HBBI", *row) for row in (
    (0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, 0x00050000 | {errno}), (0x06, 0, 0, 0x7fff0000)))
rows = ctypes.create_string_buffer(program, len(program))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rows", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(rows))), 0, 0) == 0, ctypes.get_errno()
os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""


def without_landlock(folder, program):
    wrapper = folder / "without-landlock"
    wrapper.write_text(WRAPPER.format(python=sys.executable, program=program, call=LANDLOCK_CREATE_RULESET, errno=ENOSYS))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return str(wrapper)


def test_a_kernel_without_landlock_is_named_and_allowed(make_slipway, models, tmp_path):
    service = make_slipway()
    service.program = without_landlock(tmp_path, service.program)
    service.start()
    assert "confined in part only" in service.log() and "missing=Landlock" in service.log()
    assert service.deploy("m", model.embedding(models))["status"] == "active"
    facts = service.client.get("/v1/deployments/m/revisions").json()[0]["facts"]
    assert facts["sandbox"]["landlock_abi"] == 0 and facts["sandbox"]["seccomp"] is True


def test_where_the_sandbox_is_required_such_a_kernel_is_refused(make_slipway, tmp_path):
    service = make_slipway(sandbox_required="true")
    service.program = without_landlock(tmp_path, service.program)
    service.launch()
    assert service.wait() == 8
    assert "sandbox_required" in service.log() and "no Landlock" in service.log()


def test_with_all_of_it_the_sandbox_can_be_required(make_slipway, models):
    service = make_slipway(sandbox_required="true").start()
    assert service.deploy("m", model.embedding(models))["status"] == "active"
    facts = service.client.get("/v1/deployments/m/revisions").json()[0]["facts"]
    assert facts["sandbox"]["landlock_abi"] >= 1 and facts["sandbox"]["seccomp"] is True
