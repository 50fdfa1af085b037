"""Packages as things of their own: built, shown, carried to another service as a tar, removed and pruned; and what becomes of
archives that are wrong, uploads that break off, and a service that is killed in the middle of any of it."""

import gzip
import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import httpx
import pytest

import models as tiny
from deployments import amount, answered, deploy, packages, settle, wait_task
from pauses import paused_service
from slipway import Slipway, eventually, in_own_mounts

MEBIBYTE = 1 << 20


def tar_of(files, **fields):
    """A tar of {name: bytes}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tar_of_folder(folder, name=""):
    return tar_of({f"{name}{path.relative_to(folder)}": path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})


def upload(service, body, status=201, **kwargs):
    return answered(service.client.post("/v1/packages", content=body, timeout=120, **kwargs), status)


def export(service, digest):
    answer = service.client.get(f"/v1/packages/{digest}/export", timeout=120)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == int(answer.headers["content-length"])
    return answer.content


def listed(service):
    return answered(service.client.get("/v1/packages"), 200)


def members(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def nothing_is_left(service):
    """No file of a package, and nothing of an upload."""
    folder = service.state / "packages"
    return not any(any((folder / name).iterdir()) for name in ("incoming", "trash", "sha256"))


def free_of_uploads(service):
    eventually(lambda: not any((service.state / "packages" / "incoming").iterdir()), what="nothing of the upload is left")


def kept_until_pruned(service, everything=True):
    return answered(service.client.post("/v1/packages/prune", json={"all": everything}), 200)


# ---- carrying

@pytest.mark.sanitizer
def test_a_model_is_carried_to_a_machine_that_has_no_network(make_slipway, models):
    here, there = make_slipway(), make_slipway()
    folder = tiny.add_one(models, amount=5)
    with here, there:
        here.start(), there.start()
        task = answered(here.client.post("/v1/packages/build", json={"model_uri": str(folder), "recipe": {}}), 202)
        done = wait_task(here, task["task_id"])
        assert (done["kind"], done["status"]) == ("package", "done")
        uri = done["metadata"]["package_uri"]
        digest = uri.removeprefix("package:")
        archive = export(here, digest)
        package = upload(there, archive)
        assert package["package_uri"] == uri and package["digest"] == digest
        assert package["source_uri"] == str(folder), "where it came from is carried along"
        deploy(there, "carried", uri)
        assert amount(there, "carried") == pytest.approx(5)
        assert settle(there, "carried")["deployed_model_version"] == uri
        deploy(here, "direct", str(folder))
        assert packages(here) == packages(there) == {digest.removeprefix("sha256:")}, "stored once, and the same on both"
        assert export(there, digest) == archive, "the same bytes from either"


def test_an_image_is_what_its_digests_say(slipway, models):
    digest = upload(slipway, tar_of_folder(tiny.embedding(models)))["digest"]
    details = answered(slipway.client.get(f"/v1/packages/{digest}"), 200)
    blobs = members(export(slipway, digest))
    index = json.loads(blobs["index.json"])
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    manifest_digest = index["manifests"][0]["digest"]
    assert manifest_digest == details["manifest_digest"]
    manifest = json.loads(blobs["blobs/" + manifest_digest.replace(":", "/")])
    assert manifest == details["manifest"]
    layer = blobs["blobs/" + manifest["layers"][0]["digest"].replace(":", "/")]
    assert details["layer_digest"] == manifest["layers"][0]["digest"] and details["layer_size_bytes"] == len(layer)
    inside = members(layer)
    assert {name.removeprefix("model/"): len(content) for name, content in inside.items()} == {
        file["path"]: file["size_bytes"] for file in details["contents"]}
    lines = sorted((name.removeprefix("model/"), content) for name, content in inside.items())
    tree = "".join(f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}\n" for name, content in lines)
    assert digest == "sha256:" + hashlib.sha256(tree.encode()).hexdigest()
    assert manifest["annotations"]["io.slipway.package.digest"] == digest


def test_two_machines_give_the_same_layer(make_slipway, models):
    """Whatever the order, modes and times of the files were, and however they came."""
    folder = tiny.embedding(models)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    turned = dict(reversed(files.items()))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in turned.items():
            archive.writestr(name, content)
    one, other = make_slipway().start(), make_slipway().start()
    digest = upload(one, tar_of(files, mode=0o600, mtime=1))["digest"]
    assert upload(other, gzip.compress(tar_of({f"./m/{name}": content for name, content in turned.items()}, mtime=9)))["digest"] == digest
    layers = {answered(service.client.get(f"/v1/packages/{digest}"), 200)["layer_digest"] for service in (one, other)}
    assert len(layers) == 1
    assert upload(other, zipped.getvalue(), status=200)["digest"] == digest


def skopeo(*arguments):
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def test_other_tools_take_the_image_and_give_it_back(slipway, models, tmp_path):
    digest = upload(slipway, tar_of_folder(tiny.add_one(models)))["digest"]
    (tmp_path / "e.tar").write_bytes(export(slipway, digest))
    skopeo("copy", f"oci-archive:{tmp_path}/e.tar", f"oci:{tmp_path}/layout:x")
    skopeo("copy", f"oci:{tmp_path}/layout:x", f"oci-archive:{tmp_path}/compressed.tar")
    skopeo("copy", f"oci-archive:{tmp_path}/e.tar", f"docker-archive:{tmp_path}/docker.tar:models/demo:1")
    skopeo("copy", f"docker-archive:{tmp_path}/e.tar", f"oci:{tmp_path}/loaded:x")  # by its manifest.json
    for name in ("compressed.tar", "docker.tar"):
        assert upload(slipway, (tmp_path / name).read_bytes(), status=200)["digest"] == digest, name


def test_the_command_line_carries_packages(make_slipway, models, tmp_path):
    folder = tiny.add_one(models, amount=7)
    here, there = make_slipway().start(), make_slipway().start()

    def slipway(service, *arguments, fails=False):
        done = subprocess.run([service.program, "package", *arguments, "--url", service.url], capture_output=True, text=True, timeout=60,
                              cwd=tmp_path)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    task = json.loads(slipway(here, "build", str(folder), "--wait", "--json"))
    digest = task["metadata"]["package_uri"].removeprefix("package:")
    assert digest in slipway(here, "list") and "kept" in slipway(here, "list")
    assert "model.onnx" in slipway(here, "inspect", digest)
    slipway(here, "export", digest, "m.tar")
    assert not (tmp_path / "m.tar.part").exists()
    assert digest in slipway(there, "import", "m.tar")
    assert json.loads(slipway(there, "prune", "--dry-run", "--json"))["removed"] == [], "it came within the hour"
    assert [gone["digest"] for gone in json.loads(slipway(there, "prune", "--all", "--json"))["removed"]] == [digest]
    assert nothing_is_left(there)
    assert "no package" in slipway(there, "export", digest, "n.tar", fails=True)
    assert not list(tmp_path.glob("n.tar*")), "what is not whole has no name"
    slipway(here, "remove", digest)
    assert listed(here) == []


# ---- staying and leaving

def test_an_upload_stays_until_it_is_removed_whatever_the_budget(slipway, models):
    digest = upload(slipway, tar_of_folder(tiny.add_one(models)))["digest"]
    deploy(slipway, "one", "package:" + digest)
    assert sorted(listed(slipway)[0]["pinned_by"]) == ["deployment one revision 1", "kept"]
    answer = slipway.client.delete(f"/v1/packages/{digest}")
    assert answer.status_code == 409 and "deployment one revision 1" in answer.json()["detail"]
    assert kept_until_pruned(slipway)["removed"] == []
    answered(slipway.client.delete("/v1/deployments/one"))
    eventually(lambda: slipway.client.get("/v1/deployments/one").status_code == 404, what="the name is free")
    slipway.stop()
    slipway.start()
    assert [row["pinned_by"] for row in listed(slipway)] == [["kept"]]
    answered(slipway.client.delete(f"/v1/packages/{digest}"), 200)
    assert listed(slipway) == [] and nothing_is_left(slipway)
    assert slipway.client.delete(f"/v1/packages/{digest}").status_code == 404


def test_a_state_with_packages_of_their_own_is_backed_up_checked_and_restored(make_slipway, models, tmp_path):
    service = make_slipway().start()
    digest = upload(service, tar_of_folder(tiny.add_one(models)))["digest"]

    def slipway(*arguments):
        return json.loads(subprocess.run([service.program, *arguments, "--json"], check=True, capture_output=True, timeout=60).stdout)

    slipway("backup", str(tmp_path / "backup"), "--state", str(service.state))
    slipway("backup", str(tmp_path / "lean"), "--state", str(service.state), "--without-packages")
    service.stop()
    for name, there in (("backup", [digest]), ("lean", [])):
        state = tmp_path / f"restored-{name}"
        slipway("restore", str(tmp_path / name), "--state", str(state))
        again = make_slipway(state=state).start()
        assert [row["digest"] for row in listed(again)] == there, name
        again.stop()
        slipway("check", "--state", str(state))


def test_two_prunes_at_once_remove_each_package_once(slipway, models):
    digests = {upload(slipway, tar_of({"model.onnx": os.urandom(1000)}))["digest"] for _ in range(20)}
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(kept_until_pruned(slipway))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    removed = [gone["digest"] for answer in answers for gone in answer["removed"]]
    assert sorted(removed) == sorted(digests), "each is told of by one of them"
    assert nothing_is_left(slipway)


def test_a_list_has_pages(slipway):
    for number in range(5):
        upload(slipway, tar_of({"model.onnx": bytes([number])}))
    answer = slipway.client.get("/v1/packages", params={"limit": 2, "offset": 1})
    assert len(answer.json()) == 2 and answer.headers["x-total-count"] == "5"


def test_a_build_that_cannot_be_is_refused_at_once(slipway, models):
    folder = tiny.add_one(models, "leaving")
    (folder / "link").symlink_to("/etc/passwd")
    answer = slipway.client.post("/v1/packages/build", json={"model_uri": str(folder)})
    assert answer.status_code == 400, "a folder with a link out of the roots is refused at once"
    assert slipway.client.post("/v1/packages/build", json={"model_uri": "nonsense"}).status_code == 400
    assert slipway.client.post("/v1/packages/build", json={"recipe": {}}).status_code == 400
    assert slipway.client.post("/v1/packages/build", json={"model_uri": str(folder), "replicas": 1}).status_code == 400
    assert nothing_is_left(slipway)


# ---- archives that are wrong

def member(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def archive_of(*infos):
    """Raw headers: what they claim need not be there."""
    blocks = b"".join(info.tobuf(tarfile.GNU_FORMAT) for info in infos)
    return blocks + bytes(1024)


GOOD = {"model.onnx": b"weights"}
WRONG = {
    "a link": (archive_of(member("model.onnx", tarfile.SYMTYPE, "/etc/passwd")), "link"),
    "a hard link out": (archive_of(member("model.onnx", tarfile.LNKTYPE, "../../etc/passwd")), "link"),
    "a device": (archive_of(member("model.onnx", tarfile.CHRTYPE)), "device"),
    "a pipe": (archive_of(member("model.onnx", tarfile.FIFOTYPE)), "pipe"),
    "an absolute name": (tar_of({"/etc/cron.d/x": b"x"}), "absolute"),
    "a way out": (tar_of({"m/../../x": b"x"}), "leads elsewhere"),
    "a way out behind a good file": (tar_of(GOOD | {"../x": b"x"}), "leads elsewhere"),
    "a name twice": (tar_of({"model.onnx": b"1"})[:-1024 * 9] + tar_of({"model.onnx": b"2"}), "twice"),
    "names that differ in case": (tar_of({"model.onnx": b"1", "Model.onnx": b"2"}), "case"),
    "a file that is a folder": (tar_of({"a": b"1", "a/b": b"2"}), "file and a folder"),
    "a control character": (tar_of({"a\nb": b"1"}), "control character"),
    "1 TB that is not there": (archive_of(member("model.onnx", size=10**12)), "model"),
    "nothing": (b"", "neither a tar"),
    "words": (b"hello, this is no archive at all" * 40, "neither a tar"),
    "half a tar": (tar_of({"model.onnx": bytes(100_000)})[:50_000], "broken"),
    "a tar that breaks off between two files": (tar_of({"a": b"1", "b": b"2"})[:1024], "its end is missing"),
    "no file": (archive_of(member("m/", tarfile.DIRTYPE)), "no file"),
    "a zip with a way out": (None, "leads elsewhere"),
    "a bomb": (None, "grows to more than"),
}


def wrong(name):
    body, words = WRONG[name]
    if name == "a zip with a way out":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("../x", "x")
        body = out.getvalue()
    if name == "a bomb":  # 1.2 GB of nothing in 1.2 MB, and each of its files below what one may have
        nothing = gzip.compress(bytes(4 * MEBIBYTE)) * 100
        body = b"".join(gzip.compress(member(f"{number}.bin", size=400 * MEBIBYTE).tobuf()) + nothing for number in range(3))
    return body, words


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One service for what changes nothing in it."""
    with Slipway(tmp_path_factory.mktemp("wrong")) as service:
        yield service.start()


@pytest.mark.parametrize("name", WRONG)
def test_an_archive_that_is_wrong_is_refused_and_leaves_nothing(shared, name):
    body, words = wrong(name)
    problem = upload(shared, body, status=400)
    assert problem["error"] == "ConfigurationError" and words in problem["detail"], problem
    assert nothing_is_left(shared)


def test_an_image_that_was_changed_is_refused(slipway, models):
    digest = upload(slipway, tar_of_folder(tiny.add_one(models)))["digest"]
    archive = export(slipway, digest)
    files = members(archive)
    layer = max((name for name in files if name.startswith("blobs/")), key=lambda name: len(files[name]))
    manifest = "blobs/" + json.loads(files["index.json"])["manifests"][0]["digest"].replace(":", "/")
    kept_until_pruned(slipway)

    def changed(name, what):
        return tar_of(files | {name: what})

    other = tar_of({"model/model.onnx": b"another model"})
    told = json.loads(files[manifest])
    told["annotations"]["io.slipway.package.digest"] = "sha256:" + "0" * 64
    lie = json.dumps(told).encode()
    lie_digest = hashlib.sha256(lie).hexdigest()
    index = json.loads(files["index.json"])
    index["manifests"][0] |= {"digest": f"sha256:{lie_digest}", "size": len(lie)}
    for what, body in {
        "layer": changed(layer, other),
        "a byte of the layer": changed(layer, files[layer][:1030] + b"!" + files[layer][1031:]),
        "manifest": changed(manifest, files[manifest] + b" "),
        "no manifest": tar_of({name: content for name, content in files.items() if name != manifest}),
        "no layer": tar_of({name: content for name, content in files.items() if name != layer}),
        "two images": changed("index.json", json.dumps({"manifests": [json.loads(files["index.json"])["manifests"][0]] * 2}).encode()),
        "index": changed("index.json", b"[]"),
        "its package": tar_of(files | {f"blobs/sha256/{lie_digest}": lie, "index.json": json.dumps(index).encode()}),
    }.items():
        problem = upload(slipway, body, status=400)
        assert "image" in problem["detail"] or "index.json" in problem["detail"], (what, problem)
        assert nothing_is_left(slipway), what


def test_ceilings_are_kept(make_slipway):
    service = make_slipway(upload_maximum="2Mi", model_files_maximum="3").start()
    answer = service.client.post("/v1/packages", content=bytes(3 * MEBIBYTE))
    assert answer.status_code == 413
    problem = upload(service, tar_of({f"{number}": b"x" for number in range(4)}), status=400)
    assert "3 files" in problem["detail"]
    assert nothing_is_left(service)
    upload(service, tar_of({f"{number}": b"x" for number in range(3)}))


# ---- breaking off

def test_an_upload_that_breaks_off_at_any_tenth_leaves_nothing(slipway):
    body = tar_of({"model.onnx": os.urandom(4 * MEBIBYTE)})
    for tenth in range(10):
        with socket.create_connection((slipway.host, slipway.port)) as connection:
            head = f"POST /v1/packages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: len(body) * tenth // 10])
        free_of_uploads(slipway)
    eventually(lambda: nothing_is_left(slipway), what="nothing of them is left")
    assert listed(slipway) == []

    def is_taken():  # not while four of them are still being cleaned up
        return slipway.client.post("/v1/packages", content=body).status_code == 201

    eventually(is_taken, what="an upload that is whole is taken")


def test_an_export_that_breaks_off_lets_the_package_go(slipway):
    digest = upload(slipway, tar_of({"model.onnx": os.urandom(64 * MEBIBYTE)}))["digest"]
    with slipway.client.stream("GET", f"/v1/packages/{digest}/export") as answer:
        pieces = answer.iter_raw(1000)
        next(pieces)
        assert "export" in listed(slipway)[0]["pinned_by"]
        assert slipway.client.delete(f"/v1/packages/{digest}").status_code == 409
    eventually(lambda: listed(slipway)[0]["pinned_by"] == ["kept"], what="the export's pin goes")
    answered(slipway.client.delete(f"/v1/packages/{digest}"), 200)


def test_a_package_that_is_damaged_on_the_disk_is_not_exported(slipway):
    digest = upload(slipway, tar_of({"model.onnx": os.urandom(2 * MEBIBYTE)}))["digest"]
    export(slipway, digest)
    file = slipway.state / "packages" / "sha256" / digest.removeprefix("sha256:") / "model.onnx"
    file.chmod(0o600)
    with open(file, "r+b") as damaged:
        damaged.seek(MEBIBYTE)
        damaged.write(b"damage")
    with pytest.raises(httpx.RemoteProtocolError):  # less than was announced
        slipway.client.get(f"/v1/packages/{digest}/export")


def test_an_upload_that_the_disk_has_no_room_for_is_told_so(make_slipway):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = make_slipway()
    service.port = port
    inside = service.command()
    service.command = lambda: in_own_mounts(
        f'mkdir -p {service.state}; mount -t tmpfs -o size=32m none {service.state}; chmod 700 {service.state}; '
        f'exec "$@" >{service.state}/serve.log 2>&1', inside)
    service.start()
    service.state = Path(f"/proc/{service.pid}/root{service.state}")
    large = tar_of({"model.onnx": os.urandom(40 * MEBIBYTE)})
    problem = upload(service, large, status=507)  # by its length
    assert problem["error"] == "RefusedError" and "does not fit" in problem["detail"]
    problem = upload(service, iter([large[at:at + MEBIBYTE] for at in range(0, len(large), MEBIBYTE)]), status=507)  # as it comes
    assert "disk" in problem["detail"]
    twice = tar_of({"model.onnx": os.urandom(18 * MEBIBYTE)})
    problem = upload(service, twice, status=507)  # the tar fits, and its files do not beside it
    assert "disk is full" in problem["detail"]
    free_of_uploads(service)
    assert nothing_is_left(service)
    upload(service, tar_of({"model.onnx": os.urandom(4 * MEBIBYTE)}))


# ---- kill -9

@pytest.mark.parametrize("point", ["upload_begun", "package_unpacked", "package_published"])
def test_a_kill_in_an_upload_leaves_nothing(make_slipway, tmp_path, point):
    service = paused_service(make_slipway, tmp_path)
    body = tar_of({"model.onnx": os.urandom(MEBIBYTE)})
    with service.pauses.at(point) as stop:
        thread = threading.Thread(target=lambda: service.client.post("/v1/packages", content=body, timeout=60))
        thread.start()
        service.kill(stop.reached())
        stop.release()
        thread.join()
    service.wait_until_ready()
    assert listed(service) == []
    eventually(lambda: nothing_is_left(service), what="nothing of it is left")
    digest = upload(service, body)["digest"]
    assert len(export(service, digest)) > MEBIBYTE


@pytest.mark.parametrize("point", ["package_pruning", "package_removing"])
def test_a_kill_in_a_removal_takes_what_it_told(make_slipway, tmp_path, models, point):
    service = paused_service(make_slipway, tmp_path)
    digest = upload(service, tar_of_folder(tiny.add_one(models, "used")))["digest"]
    deploy(service, "user", "package:" + digest)
    gone = upload(service, tar_of({"model.onnx": os.urandom(1000)}))["digest"]

    def remove():
        if point == "package_pruning":
            service.client.post("/v1/packages/prune", json={"all": True}, timeout=60)
        else:
            service.client.delete(f"/v1/packages/{gone}", timeout=60)

    with service.pauses.at(point) as stop:
        thread = threading.Thread(target=remove)
        thread.start()
        service.kill(stop.reached())
        stop.release()
        thread.join()
    service.wait_until_ready()
    assert [row["digest"] for row in listed(service)] == [digest]
    eventually(lambda: packages(service) == {digest.removeprefix("sha256:")}, what="the other's files go")
    assert amount(service, "user") == pytest.approx(1)


def test_a_build_goes_on_after_a_kill(make_slipway, tmp_path, models):
    service = make_slipway().start()
    folder = tiny.padded(models, mebibytes=64)
    task = answered(service.client.post("/v1/packages/build", json={"model_uri": str(folder)}), 202)
    service.kill_role("controller")
    service.wait_until_ready()
    done = wait_task(service, task["task_id"])
    assert done["status"] == "done"
    assert [row["package_uri"] for row in listed(service)] == [done["metadata"]["package_uri"]]
