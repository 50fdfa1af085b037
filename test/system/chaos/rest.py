"""At rest: nothing is asked, nothing is killed, every task has ended. What is there must be what the ledgers say."""

import json
import re

from chaos.client import ModelClient
from deployments import check_truth, runners
from slipway import eventually


def check_at_rest(world, scenario):
    """Violations of what must hold when all is quiet."""
    scenario.wait_until_retired()
    for watched in world.collections.values():
        check_indexes(world, scenario, watched)
        check_export(world, watched)
        check_searches(world, watched)
    check_processes(world)
    check_deaths(world)
    try:
        check_truth(world.service)
    except AssertionError as failure:
        world.violate(f"record, processes and folders do not agree: {failure}")


def check_indexes(world, scenario, watched):
    """Exactly one of each set is blue, of the encoder that it should be; live = indexed + failed; nothing else is left of the set."""
    path = f"/v1/collections/{watched.name}"

    def at_rest():
        indexes = scenario.ask("GET", f"{path}/indexes?limit=1000").json
        return indexes if all(index["applied_seq"] == index["head_seq"] for index in indexes) else None

    try:
        indexes = eventually(at_rest, 60, "every index has caught up")
    except AssertionError as failure:
        world.violate(f"{watched.name}: {failure}")
        return
    live = len(watched.ledger.living())
    for which in ("documents", "queries")[: 1 + watched.keep_queries]:
        blue = [index for index in indexes if index["state"] == "blue" and index["set"] == which]
        if len(blue) != 1 or blue[0]["digest"] != world.encoders[watched.pairs.blue].digest:
            world.violate(f"{watched.name}: not one index of {which} by {watched.pairs.blue} is blue: {indexes}")
    if len(indexes) != 1 + watched.keep_queries:
        world.violate(f"{watched.name}: indexes are left: {indexes}")
    for index in indexes:
        if index["set"] == "documents" and index["rows"] + index["failed"] != live:
            world.violate(f"{watched.name}: {live} documents live, the index says {index}")
    documents = scenario.ask("GET", path).json["documents"]
    if documents != live:
        world.violate(f"{watched.name}: {live} documents live, the collection says {documents}")


def check_export(world, watched):
    """Every acknowledged write is there, and nothing else."""
    answer = world.connect().ask("GET", f"/v1/collections/{watched.name}/documents")
    lines = [json.loads(line) for line in answer.body.splitlines() if line]
    found = {line["id"]: (line["payload"]["version"], line["text"]) for line in lines}
    expected = {name: (version, world.texts[watched.ledger.text_of(version)]) for name, version in watched.ledger.living().items()}
    if not answer.ok or len(found) != len(lines):
        world.violate(f"{watched.name}: the export is not one of every document: {answer}")
    lost = {name: expected[name] for name in expected.keys() - found.keys()}
    back = {name: found[name] for name in found.keys() - expected.keys()}
    other = {name: (found[name], expected[name]) for name in found.keys() & expected.keys() if found[name] != expected[name]}
    for what, which in (("lost", lost), ("there although deleted", back), ("not what was written last", other)):
        if which:
            world.violate(f"{watched.name}: {what}: {which}")


def check_searches(world, watched):
    """Every owner's documents, exactly; then everything in one answer."""
    reader = ModelClient(world, -2)
    for owner in watched.ledger.owners():
        for _ in range(3):
            if reader.search(watched, limit=1000, owner=owner) is False:
                world.violate(f"{watched.name}: a search at rest failed")
    reader.search_queries(watched)
    answer = reader.ask("POST", watched, "/search", {"query": world.queries[0], "limit": 10000})
    found = {hit["id"]: hit["payload"]["version"] for hit in answer.json["hits"]}
    if found != watched.ledger.living():
        world.violate(f"{watched.name}: a search of everything does not find exactly what lives: {answer}")


def check_processes(world):
    """One runner for each replica that is wanted, and no other process of ours."""
    service = world.service
    wanted = {"fp32"} | {name for watched in world.collections.values() for name in world.deployments[watched.pairs.blue]}

    def listed():
        found = {process["deployment"] for process in runners(service).values()}
        return found <= wanted and set(runners(service)) == set(service.pids("runner"))

    try:
        eventually(listed, 30, f"runners only of {wanted}")
    except AssertionError as failure:
        world.violate(f"{failure}; processes: {service.processes()}")
    if {process["role"] for process in service.processes()} != {"supervisor", "controller", "indexer", "gateway", "runner"}:
        world.violate(f"not every role runs: {service.processes()}")


def check_deaths(world):
    """Nobody died but by a kill: not by a signal of its own, an assertion, or a ping that it did not answer."""
    for line in world.service.whole_log().splitlines():
        died = re.search(r" (ended|replica died|replica is given up) .*cause=(\"[^\"]*\"|\S+)", line)
        if (died and "signal 9" not in died[2]) or "Sanitizer: " in line or "runtime error: " in line or "Assertion" in line:
            world.violate(f"a process died by itself: {line}")
