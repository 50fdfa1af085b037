"""The chaos proof: clients that know what must be there, while models are exchanged under them and processes are killed.

    python -m chaos --kills 1000 --seed 7          the whole (tools/chaos, `make chaos`); from test/system
    chaos.run(folder, seed=7, kills=30)            the same in a test; its Summary has .violations

The parts, for other tests:

    world = World(service, seed, {"fp32": folder})       texts, reference encoders, violations, counters
    world.deployments["fp32"].add("minilm")              under which name that encoder is deployed
    notes = world.watch("notes", "fp32")                 a collection that exists, is empty and on that encoder
    with Clients(world, 6):                              at work until the end of the block
        notes.pairs.begin("small", time.monotonic())     before asking for a change of encoders …
        notes.pairs.done(time.monotonic())               … and after it is known to be done
        world.faults.begin("gateway", None, now)         what may fail from now on, until .over[kind] is set
    check_at_rest(world, Scenario(world, notes, None, None, 0))
    assert not world.violations

ledger.py says what must be there; pairs.py which encoder may answer; faults.py what a death excuses; client.py asks and
checks; kills.py kills; scenario.py changes encoders; rest.py looks at what is left; driver.py puts them together."""

from chaos.client import Clients, ModelClient  # noqa: F401
from chaos.driver import run  # noqa: F401
from chaos.rest import check_at_rest  # noqa: F401
from chaos.scenario import Scenario  # noqa: F401
from chaos.world import World  # noqa: F401
