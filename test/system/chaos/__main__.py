"""python -m chaos [--seed N] [--kills N] [--folder DIR]: exits 1 when anything was violated."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from chaos.driver import run


def main():
    parser = argparse.ArgumentParser(prog="chaos", description="kill -9 under re-indexes and searches, and check every answer")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SLIPWAY_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32)))
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SLIPWAY_CHAOS_KILLS") or 1000))
    parser.add_argument("--folder", type=Path, help="where state and log stay; default: a temporary one")
    arguments = parser.parse_args()
    if arguments.folder:
        summary = run(arguments.folder, arguments.seed, arguments.kills)
    else:
        with tempfile.TemporaryDirectory(prefix="slipway-chaos-") as folder:
            summary = run(Path(folder) / "service", arguments.seed, arguments.kills)
    print(summary)
    sys.exit(1 if summary.violation_count else 0)


if __name__ == "__main__":
    main()
