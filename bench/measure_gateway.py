"""What the gateway itself costs: CPU a request that needs no inference, beside nginx before the same runner."""

import machine
import service
from report import ratio, spread, table

CLIENTS = 32


def measure(rounds, seconds):
    print("bench: the gateway beside nginx", flush=True)
    own, theirs = [], []
    with service.Service(access_log="false") as slipway:
        slipway.deploy()
        with service.Nginx(slipway.runner_socket()) as nginx:
            for _ in range(rounds):
                own.append(service.load(slipway, CLIENTS, seconds, "metadata", []))
                theirs.append(service.load(nginx, CLIENTS, seconds, "metadata", []))
    return render(own, theirs)


def render(own, theirs):
    gateway = [figures["cpu_of"]["gateway"] / figures["requests"] * 1e6 for figures in own]
    nginx = [figures["cpu_of"]["nginx"] / figures["requests"] * 1e6 for figures in theirs]
    failed = sum(figures["failed"] for figures in own + theirs)
    return f"""## The gateway alone

`GET /v2/models/minilm`, which the runner answers from memory, at {CLIENTS} clients through Slipway's gateway and through
nginx as reverse proxy (one worker, upstream keep-alive) to the same runner's socket. CPU time of the proxy's
own process a request, access logs off; goal: at most 1.15 of nginx's; median of {len(own)} rounds. Failed requests: {failed}.

{table(["proxy", "CPU a request", "of nginx's"],
       [["Slipway's gateway", spread(gateway, "µs", 1), ratio(list(zip(gateway, nginx)))],
        ["nginx", spread(nginx, "µs", 1), "1"]])}
"""
