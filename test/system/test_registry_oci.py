"""The OCI registry: what a manifest can hold of a model, who may read it, and what is refused.

What all registries promise is in test_registries.py. docs/registry-oci.md is the manual.
"""

import base64
import json
import os
import subprocess
import tarfile

import pytest

import models
from faulty_proxy import Fault, FaultyProxy
from registry_bed import digest_of as tree_of
from servers_oci import (EMPTY, INDEX, LAYER, MANIFEST, PASSWORD, TITLE, USER, digest_of, guarded_registry, oci_registry,  # noqa: F401
                         referrers_registry, tar_of, token_registry, token_server)
from slipway import eventually
from test_registries import TOOL, Outcome

FILES = {"model.onnx": b"onnx " * 5000, "config.json": b"{}", "1_Pooling/config.json": b'{"a":1}'}
HOSTILE = {"symbolic link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}


def section(registry, more="", address=None):
    host = "{}:{}".format(*(address or registry.address))
    return f"[oci test]\nhosts = {host}\nplain_http = true\n{more}"


@pytest.fixture
def fetch(tmp_path):
    """Runs the fetching tool; `docker` is the content of a config.json."""
    count = iter(range(1000))

    def run(uri, conf, docker=None, **flags):
        number = next(count)
        (tmp_path / "registries").write_text(conf)
        (tmp_path / "registries").chmod(0o600)
        folder = tmp_path / f"fetched-{number}"
        folder.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "nowhere")}
        if docker is not None:
            (tmp_path / "docker").mkdir(exist_ok=True)
            (tmp_path / "docker" / "config.json").write_text(docker if isinstance(docker, str) else json.dumps(docker))
            environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
        command = [TOOL, f"--registries={tmp_path / 'registries'}", "--attempts=2",
                   *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()), uri, folder]
        outcome = Outcome(subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment), folder)
        assert PASSWORD not in outcome.text
        return outcome

    return run


@pytest.fixture
def pull(oci_registry, fetch):  # noqa: F811
    return lambda name, **options: fetch(f"oci://{oci_registry.host}/{name}", section(oci_registry), **options)


# ---- references


@pytest.mark.sanitizer
def test_a_tag_is_pinned_to_its_digest(oci_registry, pull):  # noqa: F811
    digest = oci_registry.push_files("models/pinned", "v1", FILES)
    by_tag = pull("models/pinned:v1")
    assert by_tag.resolution["resolved_uri"] == f"oci://{oci_registry.host}/models/pinned@{digest}"
    oci_registry.push_files("models/pinned", "v1", {"model.onnx": b"another"})
    for name in (f"models/pinned@{digest}", f"models/pinned:v1@{digest}"):
        by_digest = pull(name)
        assert by_digest.tree == by_tag.tree == tree_of(FILES)
        assert by_digest.resolution == by_tag.resolution
    assert pull("models/pinned:v1").resolution["fingerprint"] != by_tag.resolution["fingerprint"]


def test_latest_is_what_no_tag_means(oci_registry, pull):  # noqa: F811
    oci_registry.push_files("models/latest", "latest", FILES)
    assert pull("models/latest").tree == tree_of(FILES)


@pytest.mark.parametrize("name, part", [
    ("models/UPPER", "lower-case"), ("models/a:-x", "a tag has"), ("models/a@sha256:12", "64 lower-case"), ("models//a", "lower-case"),
    ("models/a?tag=x", "only path="), ("models/a?path=/a/../b", "none that can lie in an image"), ("models/../a", "lower-case"),
])
def test_a_broken_reference_is_refused_at_once(pull, name, part):
    pull(name).expect("ConfigurationError", False, part)


def test_a_registry_that_no_section_names_is_not_asked(oci_registry, fetch):  # noqa: F811
    asked = oci_registry.log().count("GET")
    error = fetch(f"oci://{oci_registry.host}/models/a", "[oci other]\nhosts = registry.example\n")
    assert "hosts= of an [oci NAME] section" in error.expect("ConfigurationError", False, "oci: is not configured here")
    assert oci_registry.log().count("GET") == asked


@pytest.mark.parametrize("name", ["models/nothing:v1", "models/pinned-not:v2", f"models/nothing@{digest_of(b'no')}"])
def test_what_is_not_there_is_said_and_final(pull, name):
    pull(name).expect("ModelRegistryError", False, "has no manifest")


# ---- forms


@pytest.mark.parametrize("compress, suffix", [("", ""), ("gz", "+gzip")])
def test_an_oras_folder_is_unpacked(oci_registry, pull, compress, suffix):  # noqa: F811
    tar = tar_of([(f"minilm/{path}", data) for path, data in FILES.items()], compress)
    notes = {TITLE: "minilm", "io.deis.oras.content.unpack": "true"}
    oci_registry.push_layers("models/folder", "v1", [(LAYER + suffix, tar, notes)])
    assert pull("models/folder:v1").tree == tree_of(FILES)
    assert pull("models/folder:v1?path=minilm/1_Pooling").tree == tree_of({"config.json": b'{"a":1}'})


def test_a_modelkit_gives_model_and_parts_and_no_data_set(oci_registry, pull):  # noqa: F811
    kit = "application/vnd.kitops.modelkit."
    layers = [(kit + "model.v1.tar+gzip", tar_of([("./model.onnx", FILES["model.onnx"])], "gz"), None),
              (kit + "modelpart.v1.tar", tar_of([("config.json", b"{}"), ("1_Pooling/config.json", b'{"a":1}')]), None),
              (kit + "dataset.v1.tar", tar_of([("rows.csv", b"1,2")]), None),
              (kit + "docs.v1.tar", tar_of([("README.md", b"read")]), None)]
    oci_registry.push_layers("models/kit", "v1", layers, config=(kit + "config.v1+json", b"{}"))
    assert pull("models/kit:v1").tree == tree_of(FILES)


def test_a_modelpack_gives_weights_and_their_configuration(oci_registry, pull):  # noqa: F811
    pack = "application/vnd.cncf.model."
    path = "org.cncf.model.filepath"
    layers = [(pack + "weight.v1.raw", FILES["model.onnx"], {path: "model.onnx"}),
              (pack + "weight.config.v1.raw", b"{}", {path: "config.json"}),
              (pack + "weight.config.v1.tar", tar_of([("1_Pooling/config.json", b'{"a":1}')]), {path: "1_Pooling"}),
              (pack + "doc.v1.raw", b"read", {path: "README.md"})]
    oci_registry.push_layers("models/pack", "v1", layers, config=(pack + "config.v1+json", b"{}"),
                             artifactType=pack + "manifest.v1+json")
    assert pull("models/pack:v1").tree == tree_of(FILES)


def image_tars():
    """Three layers with everything that whiteouts can do, and the model that is left of it."""
    base = [("etc/passwd", b"root"), ("models/old/model.onnx", b"old"), ("models/x/model.onnx", b"first"), ("models/x/gone", b"1"),
            ("models/x/folder/a", b"a"), ("models/x/folder/b", b"b"), ("models/x/was-file", b"f"), ("models/x/was-folder/c", b"c")]
    middle = [("models/x/.wh.gone", b""), ("models/x/folder/.wh..wh..opq", b""), ("models/x/folder/new", b"new"),
              ("models/x/model.onnx", FILES["model.onnx"]), ("models/x/was-file/inside", b"i"), ("models/x/was-folder", b"plain"),
              ("etc/.wh.passwd", b"")]
    top = [("./models/x/config.json", b"{}")]
    link = tarfile.TarInfo("usr/bin/sh")  # links elsewhere in an image are nobody's concern
    link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
    tree = {"model.onnx": FILES["model.onnx"], "config.json": b"{}", "folder/new": b"new", "was-file/inside": b"i", "was-folder": b"plain"}
    return [tar_of([*base, link]), tar_of(middle, "gz"), tar_of(top)], tree


@pytest.mark.sanitizer
def test_the_model_in_an_image_is_what_its_layers_leave_under_the_path(oci_registry, pull):  # noqa: F811
    tars, tree = image_tars()
    oci_registry.push_image("images/whiteouts", "v1", tars)
    assert pull("images/whiteouts:v1?path=/models/x").tree == tree_of(tree)
    assert pull("images/whiteouts:v1?path=/models/old/model.onnx").tree == tree_of({"model.onnx": b"old"})
    pull("images/whiteouts:v1?path=/models/none").expect("ModelRegistryError", False, "has no files")


def test_a_folder_that_a_layer_takes_away_is_gone(oci_registry, pull):  # noqa: F811
    tars = [tar_of([("models/x/a", b"a"), ("models/x/b/c", b"c")]), tar_of([(".wh.models", b""), ("models/x/new", b"new")])]
    oci_registry.push_image("images/gone", "v1", tars)
    assert pull("images/gone:v1?path=models/x").tree == tree_of({"new": b"new"})


def test_an_image_says_itself_where_its_model_lies(oci_registry, pull):  # noqa: F811
    tars, tree = image_tars()
    label = {"io.slipway.model.path": "/models/x"}
    oci_registry.push_image("images/label", "v1", tars, labels=label)
    oci_registry.push_image("images/note", "v1", tars, annotations=label)
    oci_registry.push_image("images/silent", "v1", tars)
    for name in ("label", "note"):
        assert pull(f"images/{name}:v1").tree == tree_of(tree)
    pull("images/silent:v1").expect("ModelRegistryError", False, "add ?path=/models/x to the URI")


def push_index(registry, repository, platforms):
    entries = []
    for number, platform in enumerate(platforms):
        digest = registry.push_image(repository, f"p{number}", [tar_of([("m/model.onnx", f"{platform}".encode())])])
        size = len(registry.client.get(f"/v2/{repository}/manifests/{digest}").content)
        system, _, architecture = platform.partition("/")
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                        "platform": {"os": system, "architecture": architecture}})
    return registry.put_manifest(repository, "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), entries


def test_of_several_platforms_it_is_this_machines(oci_registry, pull):  # noqa: F811
    _, entries = push_index(oci_registry, "images/index", ["linux/s390x", "linux/amd64", "linux/arm64", "unknown/unknown"])
    outcome = pull("images/index:v1?path=m")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    assert outcome.tree == tree_of({"model.onnx": f"linux/{architecture}".encode()})
    chosen = next(entry["digest"] for entry in entries if entry["platform"]["architecture"] == architecture)
    assert chosen in outcome.resolution["resolved_uri"]


def test_an_only_platform_is_taken_and_of_foreign_ones_none(oci_registry, pull):  # noqa: F811
    push_index(oci_registry, "images/only", ["linux/riscv64", "unknown/unknown"])
    assert pull("images/only:v1?path=m").tree == tree_of({"model.onnx": b"linux/riscv64"})
    push_index(oci_registry, "images/foreign", ["linux/riscv64", "windows/amd64"])
    pull("images/foreign:v1?path=m").expect("ModelRegistryError", False, "has no image for linux")


# ---- what is refused


@pytest.mark.parametrize("what", HOSTILE)
def test_only_plain_files_come_out_of_a_layer(oci_registry, pull, what):  # noqa: F811
    entry = tarfile.TarInfo("m/model.onnx")
    entry.type, entry.linkname = HOSTILE[what], "../../../etc/passwd"
    tar = tar_of([("m/config.json", b"{}"), entry])
    name = what.split()[0]
    oci_registry.push_image(f"hostile/{name}", "v1", [tar])
    pull(f"hostile/{name}:v1?path=m").expect("ConfigurationError", False, what)


@pytest.mark.parametrize("name", ["../outside", "m/../../outside", "/etc/outside"])
def test_no_name_leads_out_of_the_model(oci_registry, pull, tmp_path, name):  # noqa: F811
    oci_registry.push_layers("hostile/names", "v1", [(LAYER, tar_of([("m/a", b"a"), (name, b"x")]), None)])
    pull("hostile/names:v1").expect("ConfigurationError", False, "leads out")
    oci_registry.push_files("hostile/titles", "v1", {name: b"x"})
    pull("hostile/titles:v1").expect("ConfigurationError", False)
    assert not list(tmp_path.rglob("outside"))


def test_what_unpacks_to_too_much_is_cut_off(oci_registry, pull):  # noqa: F811
    bomb = tar_of([("m/model.onnx", bytes(50_000_000))], "gz")
    oci_registry.push_image("hostile/bomb", "v1", [bomb])
    pull("hostile/bomb:v1?path=m", size_maximum=2_000_000).expect("ConfigurationError", False, "model_size_maximum")
    oci_registry.push_image("hostile/many", "v1", [tar_of([(f"m/{number}", b"") for number in range(50)])])
    pull("hostile/many:v1?path=m", files_maximum=20).expect("ConfigurationError", False, "files")


def test_names_in_a_layer_that_differ_in_case_only_are_refused(oci_registry, pull):  # noqa: F811
    oci_registry.push_image("hostile/case", "v1", [tar_of([("m/a", b"1"), ("m/A", b"2")])])
    pull("hostile/case:v1?path=m").expect("ConfigurationError", False, "upper and lower case")


class Forge(Fault):
    """Changes the bodies that are asked for at targets with this word in them."""

    def __init__(self, word, old, new):
        self.word, self.old, self.new = word, old, new

    def change(self, answer):
        if self.word not in answer.target:
            return answer.head + answer.body
        return answer.head.replace(self.old, self.new) + answer.body.replace(self.old, self.new)


@pytest.mark.parametrize("word, old, new, part", [
    ("manifests/", b"model.onnx", b"m0del.onnx", "what came has the digest"),
    ("blobs/", b"onnx onnx", b"onnx 0nnx", "its sha256 is"),
])
def test_a_registry_that_lies_about_digests_is_caught(oci_registry, fetch, word, old, new, part):  # noqa: F811
    digest = oci_registry.push_files("models/lies", "v1", FILES)
    with FaultyProxy(oci_registry.address, Forge(word, old, new)) as proxy:
        uri = "oci://{}:{}/models/lies@{}".format(*proxy.address, digest)
        fetch(uri, section(None, address=proxy.address)).expect("ModelRegistryError", False, part)


def test_a_manifest_under_a_tag_must_have_the_digest_that_is_told(oci_registry, fetch):  # noqa: F811
    oci_registry.push_files("models/lies", "v1", FILES)
    with FaultyProxy(oci_registry.address, Forge("manifests/", b"model.onnx", b"m0del.onnx")) as proxy:
        uri = "oci://{}:{}/models/lies:v1".format(*proxy.address)
        fetch(uri, section(None, address=proxy.address)).expect("ModelRegistryError", part="the registry says that its digest is")


def test_a_manifest_that_calls_itself_something_else_is_refused(oci_registry, fetch):  # noqa: F811
    oci_registry.push_files("models/type", "v1", FILES)
    old = b"Content-Type: application/vnd.oci.image.manifest.v1+json"
    with FaultyProxy(oci_registry.address, Forge("manifests/", old, old.replace(b"manifest", b"manif3st"))) as proxy:
        uri = "oci://{}:{}/models/type:v1".format(*proxy.address)
        fetch(uri, section(None, address=proxy.address)).expect("ModelRegistryError", part="the manifest says that it is")


# ---- who may read


def docker_auth(host, user=USER, password=PASSWORD):
    return {"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}}


@pytest.fixture(params=["guarded_registry", "token_registry"])
def private(request, oci_registry):  # noqa: F811
    """One registry that asks for Basic, one that asks for a token; both with models/private:v1."""
    registry = request.getfixturevalue(request.param)
    if registry.user is None:  # filled behind its back: what it serves is files
        source = oci_registry
        source.push_files("models/private", "v1", FILES)
        subprocess.run(["cp", "-r", f"{source.folder}/data", str(registry.folder)], check=True)
    else:
        registry.push_files("models/private", "v1", FILES)
    return registry


def token_section(registry, request):
    host = request.getfixturevalue("token_server").host if registry.user is None else "nowhere.example"
    return f"redirect_hosts = {host}\n"


@pytest.mark.sanitizer
def test_user_and_password_open_a_private_repository(private, fetch, request, tmp_path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    more = token_section(private, request) + f"username = {USER}\npassword_file = {tmp_path / 'password'}\n"
    assert fetch(f"oci://{private.host}/models/private:v1", section(private, more)).tree == tree_of(FILES)


def test_what_docker_knows_is_used_where_the_section_says_nothing(private, fetch, request):
    conf = section(private, token_section(private, request))
    uri = f"oci://{private.host}/models/private:v1"
    assert fetch(uri, conf, docker=docker_auth(private.host)).tree == tree_of(FILES)
    assert fetch(uri, conf, docker=docker_auth(f"https://{private.host}/v1/")).tree == tree_of(FILES)
    fetch(uri, conf, docker=docker_auth("registry.example")).expect("ModelRegistryError", False, "none are configured")


def test_wrong_and_missing_credentials_are_told_apart(private, fetch, request):
    conf = section(private, token_section(private, request))
    uri = f"oci://{private.host}/models/private:v1"
    fetch(uri, conf).expect("ModelRegistryError", False, "asks for credentials, and none are configured")
    outcome = fetch(uri, conf, docker=docker_auth(private.host, password="wrong"))
    outcome.expect("ModelRegistryError", False, "does not take the credentials")
    assert "wrong" not in outcome.text


def test_an_identity_token_is_changed_for_a_bearer_token(token_registry, token_server, oci_registry, fetch):  # noqa: F811
    oci_registry.push_files("models/identity", "v1", FILES)
    subprocess.run(["cp", "-r", f"{oci_registry.folder}/data", str(token_registry.folder)], check=True)
    docker = {"auths": {token_registry.host: {"identitytoken": token_server.refresh_token}}}
    conf = section(token_registry, f"redirect_hosts = {token_server.host}\n")
    outcome = fetch(f"oci://{token_registry.host}/models/identity:v1", conf, docker=docker)
    assert outcome.tree == tree_of(FILES)
    method, asked = token_server.requests[-1]
    assert (method, asked["grant_type"], asked["scope"]) == ("POST", ["refresh_token"], ["repository:models/identity:pull"])


def test_credentials_go_to_no_token_server_that_is_not_named(token_registry, token_server, fetch):  # noqa: F811
    count = len(token_server.requests)
    outcome = fetch(f"oci://{token_registry.host}/models/private:v1", section(token_registry), docker=docker_auth(token_registry.host))
    outcome.expect("ModelRegistryError", False, "name its host in redirect_hosts")
    assert len(token_server.requests) == count


def test_a_bearer_token_of_the_section_is_sent_as_it_is(token_registry, token_server, oci_registry, fetch, tmp_path):  # noqa: F811
    oci_registry.push_files("models/bearer", "v1", FILES)
    subprocess.run(["cp", "-r", f"{oci_registry.folder}/data", str(token_registry.folder)], check=True)
    token = token_server.token([{"type": "repository", "name": "models/bearer", "actions": ["pull"]}])
    (tmp_path / "token").write_text(token)
    outcome = fetch(f"oci://{token_registry.host}/models/bearer:v1", section(token_registry, f"token_file = {tmp_path / 'token'}\n"))
    assert outcome.tree == tree_of(FILES) and token not in outcome.text


@pytest.mark.parametrize("docker", ["credHelpers", "credsStore"])
def test_helper_programs_are_refused_with_words(guarded_registry, fetch, docker):  # noqa: F811
    host = guarded_registry.host
    config = {"credHelpers": {host: "ecr-login"}} if docker == "credHelpers" else {"auths": {host: {}}, "credsStore": "desktop"}
    fetch(f"oci://{host}/models/private:v1", section(guarded_registry), docker=config).expect(
        "ModelRegistryError", False, "helper program, which is not run here")


@pytest.mark.parametrize("docker, part", [("{", "no JSON object"), ('{"auths": {"HOST": {"auth": "%%%%"}}}', "is not base64 of user:password")])
def test_a_broken_docker_config_is_named_without_its_words(guarded_registry, fetch, docker, part):  # noqa: F811
    host = guarded_registry.host
    outcome = fetch(f"oci://{host}/models/private:v1", section(guarded_registry), docker=docker.replace("HOST", host))
    outcome.expect("ModelRegistryError", False, part)
    assert "%%%%" not in outcome.text


# ---- by the service


@pytest.mark.sanitizer
def test_a_model_in_a_registry_is_deployed_and_pinned(make_slipway, oci_registry, tmp_path):  # noqa: F811
    folder = models.add_one(tmp_path / "m")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    digest = oci_registry.push_files("models/one", "champion", files)
    (tmp_path / "registries").write_text(section(oci_registry))
    (tmp_path / "registries").chmod(0o600)
    service = make_slipway(registries=tmp_path / "registries").start()
    deployment = service.deploy("one", f"oci://{oci_registry.host}/models/one:champion")
    assert deployment["status"] == "active", deployment
    assert deployment["deployed_model_version"] == f"oci://{oci_registry.host}/models/one@{digest}"
    missing = service.deploy("two", f"oci://{oci_registry.host}/models/one:none")
    assert missing["status"] == "failed" and missing["error"]["error"] == "ModelRegistryError", missing
    assert "has no manifest none" in missing["message"]
    answer = service.client.post("/v1/deployments", json={"deployment_name": "three", "model_uri": "oci://elsewhere.example/m:v1",
                                                          "deployment_target_config": {"type": "api_service"}})
    assert answer.status_code == 400 and "oci: is not configured" in answer.json()["detail"], answer.text
    eventually(lambda: service.client.get("/readyz").status_code == 200)


# ---- referrers


def call(registry, *arguments):
    done = subprocess.run([TOOL.parent / "oci_client", registry.host, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("has_api", [False, True], ids=["tag", "api"])
def test_what_refers_to_an_image_is_found_by_the_api_or_by_the_tag(request, tmp_path, has_api):
    registry = request.getfixturevalue("referrers_registry" if has_api else "oci_registry")
    subject = registry.push_files("models/subject", "v1", FILES)
    assert json.loads(call(registry, "referrers", "models/subject", subject))["manifests"] == []
    digests = []
    for number in (1, 2, 2):
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": f"application/vnd.example.note{number}",
                    "config": registry.describe("models/subject", EMPTY, b"{}"), "layers": [registry.describe("models/subject", EMPTY, b"{}")],
                    "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}, "annotations": {"number": str(number)}}
        (tmp_path / "manifest").write_text(json.dumps(manifest))
        digests.append(call(registry, "put", "models/subject", f"note{number}", str(tmp_path / "manifest")).strip())
    found = json.loads(call(registry, "referrers", "models/subject", subject))["manifests"]
    assert {entry["digest"] for entry in found} == set(digests) and len(found) == 2
    if not has_api:  # what we wrote ourselves
        assert [entry["artifactType"] for entry in found] == ["application/vnd.example.note1", "application/vnd.example.note2"]
        assert [entry["annotations"] for entry in found] == [{"number": "1"}, {"number": "2"}]
    tag = registry.client.get(f"/v2/models/subject/manifests/{subject.replace(':', '-')}", headers={"Accept": INDEX})
    assert tag.status_code == (404 if has_api else 200)
