"""The proof at its short length; `make chaos` is the long one (test/system/chaos).

SLIPWAY_CHAOS_SEED takes the seed of a run that failed, SLIPWAY_CHAOS_KILLS another length."""

import os
import random

import pytest

import chaos


@pytest.mark.timeout(900)  # it takes about four minutes on two processors
def test_no_kill_at_any_moment_of_a_re_index_loses_brings_back_or_mixes_anything(tmp_path, request):
    seed = int(os.environ.get("SLIPWAY_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    kills = int(os.environ.get("SLIPWAY_CHAOS_KILLS") or 30)
    summary = chaos.run(tmp_path / "service", seed, kills)
    print(summary)
    assert summary.violation_count == 0, summary
    assert sum(summary.kills.values()) >= kills and summary.counts["searches"] > 100 and summary.switches > 0, summary
