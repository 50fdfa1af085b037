"""What a type checker sees of both clients: the table of operations does not cost their types."""

import subprocess
import sys
from pathlib import Path

import slipway

PROGRAM = """
import slipway
from slipway import workers

def blocking(client: slipway.Client) -> None:
    status: slipway.DeploymentStatusResponse = client.get_deployment_status("x")
    for event in client.follow_events():
        number: int = event.event_id
    client.search("notes", "text", limit=3)
    workers.blue_switch(object(), client=client)

async def awaiting(client: slipway.AsyncClient) -> None:
    status: slipway.DeploymentStatusResponse = await client.get_deployment_status("x")
    async for event in client.follow_events():
        number: int = event.event_id
    client.list_deployments()  # E: unused-coroutine
    await client.search("notes", limit="three")  # E: arg-type
    client.get_deployment_status()  # E: call-arg
"""


def test_calls_and_their_answers_are_typed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "program.py"]
    environment = {"PATH": "/usr/bin:/bin", "MYPYPATH": str(Path(slipway.__file__).parents[1])}
    if "site-packages" in slipway.__file__:
        del environment["MYPYPATH"]  # it has py.typed
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    expected = {(number, line.split("# E: ")[1]) for number, line in enumerate(PROGRAM.splitlines(), 1) if "# E: " in line}
    found = {
        (int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]")) for line in done.stdout.splitlines() if ": error: " in line
    }
    assert expected <= found and {number for number, _ in found} == {number for number, _ in expected}, done.stdout
