"""What the privacy benchmark counts, on numbers made by hand."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.privacy import noise_table
from benchmarks.privacy_masks import mask_ms
from benchmarks.privacy_noise import NoiseRow, _imbalance
from networks.market.tariffs import Response


def test_the_imbalance_is_of_energy_and_a_share_of_what_is_drawn() -> None:
    drawn = {
        "a": Response(0.0, {("a-dso", "p_mw"): np.array([3.0, -1.0]), ("a-dso", "flex_up_mw"): np.array([9.0, 9.0])}),
        "b": Response(0.0, {("b-dso", "p_mw"): np.array([4.0, 0.0])}),
    }
    granted = {"a-dso": [2.5, -1.0], "b-dso": [4.0, 1.5]}
    boundary = {c: {q: SimpleNamespace(upper=np.array(v)) for q in ("p_mw", "flex_up_mw")} for c, v in granted.items()}
    assert _imbalance(drawn, SimpleNamespace(boundary=boundary)) == pytest.approx(2.0 / 8.0)


def test_the_table_has_a_line_a_budget_and_leaves_nothing_out() -> None:
    def row(epsilon: float | None, seed: int, cost: float | None) -> dict:
        found = asdict(NoiseRow("case", epsilon, 50, seed, 1.0, 2.0, status="max_iterations", cost_above_optimum=cost))
        return found | {"exchanges": 50, "mismatch": 0.1 * (seed + 1)}

    rows = [row(None, 0, 0.0), *(row(10.0, seed, 0.5 + seed) for seed in range(3)), row(1.0, 0, None), row(1.0, 1, 7.0)]
    head, _, *lines = [line.split(" | ") for line in noise_table(rows).splitlines() if line.startswith("|")]
    assert len(lines) == 3
    at = {name.strip("| "): i for i, name in enumerate(head)}
    assert [line[at["cost above optimum"]].strip("| ") for line in lines] == ["0", "1.5", "-"]
    assert [line[at["mismatch"]] for line in lines] == ["0.1", "0.2", "0.15"]


def test_a_mask_takes_time() -> None:
    assert 0 < mask_ms(3) < 100
