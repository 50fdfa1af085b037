"""What the control API costs, beside the same route in FastAPI over SQLite; and what a deployment takes beyond its session."""

import json
import time

import machine
import service
from peer import Peer
from report import ratio, spread, table

CLIENTS = 8
GOAL = 5
SESSION_GOAL = 1.2
SESSION_SPARE_MS = 100
SESSION = """
import json, sys, time, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
took = []
for _ in range(int(sys.argv[2])):
    begin = time.monotonic()
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    took.append(1e3 * (time.monotonic() - begin))
print(json.dumps(took))
"""


def measure_status(rounds, seconds):
    own, theirs = [], []
    with service.Service(access_log="false") as slipway, Peer("records") as peer:
        own_id = slipway.deploy()["deployment_id"]
        for _ in range(rounds):
            own.append(service.load(slipway, CLIENTS, seconds, f"/v1/deployments/{own_id}", []))
            theirs.append(service.load(peer, CLIENTS, seconds, "/v1/deployments/00000000-0000-4000-8000-000000000000", []))
    return own, theirs


def session_ms(times):
    """Milliseconds that the bare library takes to create the session, each in the same process but the first."""
    python = service.BUILD / "venv-bench/bin/python"
    model = service.MODEL / "onnx/model.onnx"
    return json.loads(machine.output_of(None, [python, "-c", SESSION, model, times + 1]))[1:]


def deploy_ms(slipway, name):
    begin = time.monotonic()
    slipway.deploy(name)
    took = 1e3 * (time.monotonic() - begin)
    slipway.call("DELETE", f"/v1/deployments/{name}")
    slipway.settle_gone(name)
    return took


def measure_deploy(times):
    with service.Service(core=None) as slipway:
        slipway.deploy()  # keeps the package here
        return [deploy_ms(slipway, f"again-{number}") for number in range(times)]


def measure(rounds, seconds):
    print("bench: the control API, deploy to active", flush=True)
    own, theirs = measure_status(rounds, seconds)
    sessions, deploys = session_ms(2 * rounds), measure_deploy(2 * rounds)
    return render(own, theirs, sessions, deploys)


def render(own, theirs, sessions, deploys):
    roles = {role: machine.median([f["cpu_of"].get(role, 0) / f["requests"] * 1e6 for f in own])
             for role in ("gateway", "controller")}
    session, deploy = machine.median(sessions), machine.median(deploys)
    allowed = SESSION_GOAL * session + SESSION_SPARE_MS
    return f"""## The control API

`GET /v1/deployments/{{id}}` at {CLIENTS} clients, on one core, with the load on another: through gateway and controller, which
reads its database for each; and the same route in FastAPI over SQLite (`bench/peers/records_app.py`). Access logs off. Goal: ≥ {GOAL} times the
requests a CPU second. Median of {len(own)} rounds. Of Slipway's CPU a request, {roles["gateway"]:.0f} µs are the gateway's and
{roles["controller"]:.0f} µs the controller's. Failed requests: {sum(f["failed"] for f in own + theirs)}.

{table(["", "requests a second", "requests a CPU second"],
       [["Slipway", *(spread([getattr(f, way) for f in own], "/s") for way in ("per_second", "per_cpu_second"))],
        ["FastAPI + SQLite", *(spread([getattr(f, way) for f in theirs], "/s") for way in ("per_second", "per_cpu_second"))],
        ["Slipway / FastAPI", *(ratio([(getattr(a, way), getattr(b, way)) for a, b in zip(own, theirs)])
                                for way in ("per_second", "per_cpu_second"))]])}

From `POST /v1/deployments` to active, with the package already here, against creating the same session with the bare library in
a process that has it loaded. Not pinned. Goal: at most {SESSION_GOAL} times as long and {SESSION_SPARE_MS} ms, which is {allowed:.0f} ms.

{table(["", "takes"], [["bare session", spread(sessions, "ms")], ["deploy to active", spread(deploys, "ms")],
                       ["of what is allowed", f"**{deploy / allowed:.2f}**"]])}
"""
