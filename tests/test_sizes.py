"""Scales far from values and prices: a run ends at the optimum, or says which scale is far off, and never else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from subproblems import QPAgent, QuadraticProgram
from tests.small_problems import Parabola, coupling, pair, star

PERIODS, KEY = 24, ("plant-grid", "p_mw")
PRICE = 40 + 20 * np.sin(np.arange(PERIODS) / 4)
OPTIMUM_EUR, TURNOVER_EUR = 373.327, 441.0
OF_TURNOVER = 1e-3


def agents(solver: str, shares_cost: bool = True) -> dict[str, QPAgent]:
    """A plant that needs 12 MWh in a day, at most 1 MW, from a grid whose price rises by 8 EUR/MWh for each MW."""
    eye, total = sp.identity(PERIODS, format="csc"), sp.csc_matrix(np.ones((1, PERIODS)))
    both = {KEY: np.arange(PERIODS)}
    rows = sp.vstack([eye, total])
    lower, upper = np.r_[np.zeros(PERIODS), 12], np.r_[np.ones(PERIODS), 12]
    plant = QuadraticProgram(1e-3 * eye, np.zeros(PERIODS), rows, lower, upper, boundary=both, name="plant")
    grid = QuadraticProgram(8.0 * eye, PRICE, eye, np.zeros(PERIODS), np.full(PERIODS, 2.0), boundary=both, name="grid")
    return {name: QPAgent(program, solver, shares_cost) for name, program in (("plant", plant), ("grid", grid))}


def solve(solver: str = "osqp", scheme: str = "two-block", shares_cost: bool = True, **scales: float) -> admm.Result:
    quantity = admm.Quantity("p_mw", PERIODS, **{"scale": 1.0, "price_scale": 50.0, **scales})
    settings = admm.Settings(scheme=scheme, max_iterations=200)
    return admm.solve(agents(solver, shares_cost), [admm.Coupling("plant-grid", "plant", "grid", [quantity])], settings)


def water_filling() -> float:
    """The optimum by bisection on the plant's marginal value, with min 1/2 1e-3 p^2 + 4 p^2 + PRICE p."""
    low, high = 0.0, 100.0
    for _ in range(100):
        value = 0.5 * (low + high)
        taken = np.clip((value - PRICE) / 8.001, 0, 1)
        low, high = (value, high) if taken.sum() < 12 else (low, value)
    return float((4.0005 * taken**2 + PRICE * taken).sum())


def test_the_optimum_by_hand() -> None:
    result = solve()
    assert result.converged and result.note == ""
    assert water_filling() == pytest.approx(OPTIMUM_EUR, abs=1e-3)
    assert result.turnover == pytest.approx(TURNOVER_EUR, rel=0.1)


FAR = [
    {"scale": 1e12},
    {"scale": 1e9},
    {"scale": 1e6},
    {"scale": 1e4},
    {"scale": 1e-4},
    {"scale": 1e-6},
    {"price_scale": 1e9},
    {"price_scale": 1e6},
    {"price_scale": 2.5e-3},
    {"price_scale": 5e-6},
    {"scale": 1e3, "price_scale": 0.05},
    {"scale": 1e-3, "price_scale": 5e4},
    {"scale": 1e6, "price_scale": 1e6},
    {"scale": 1e3, "price_scale": 5e4},
    {"price_scale": 5e6},
]


@pytest.mark.parametrize("solver", ["osqp", "piqp"])
@pytest.mark.parametrize("scales", FAR, ids=str)
def test_a_scale_far_off_ends_at_the_optimum_or_is_named(scales: dict, solver: str) -> None:
    result = solve(solver, **scales)
    if result.converged:
        assert result.objective == pytest.approx(OPTIMUM_EUR, abs=OF_TURNOVER * TURNOVER_EUR)
        assert np.abs(result.boundary["plant-grid"]["p_mw"].mismatch * scales.get("scale", 1.0)).max() < 5e-3
    else:
        assert result.status in (admm.Status.SCALES, admm.Status.MAX_ITERATIONS)
        assert "of the stated" in result.note and "'plant-grid', p_mw" in result.note
        assert any(f"give a {key} near" in result.note for key in scales)


@pytest.mark.parametrize("scheme", ["certified", "memory"])
@pytest.mark.parametrize("scales", [{"scale": 1e6}, {"scale": 1e9}, {"price_scale": 1e6}], ids=str)
def test_a_proof_is_one_of_the_values_own_size(scales: dict, scheme: str) -> None:
    result = solve("piqp", scheme, **scales)
    if result.converged:
        assert result.objective == pytest.approx(OPTIMUM_EUR, abs=OF_TURNOVER * TURNOVER_EUR)
    else:
        assert "of the stated" in result.note


@pytest.mark.parametrize("scales", [{"scale": 1e9}, {"scale": 1e6}], ids=str)
def test_it_needs_no_costs(scales: dict) -> None:
    result = solve("piqp", shares_cost=False, **scales)
    taken = result.boundary["plant-grid"]["p_mw"].lower
    assert not result.converged or (4.0005 * taken**2 + PRICE * taken).sum() == pytest.approx(OPTIMUM_EUR, abs=0.5)


def test_one_quantity_of_several_whose_scale_is_far_off() -> None:
    problem = star()
    names = {"a-s": 1e6, "b-s": 1.0, "c-s": 1.0}
    couplings = [coupling(name, name[0], "s", scale=scale, price_scale=4.0) for name, scale in names.items()]
    result = admm.solve({name: make() for name, make in problem.agents.items()}, couplings)
    assert not result.converged or result.objective == pytest.approx(problem.objective, rel=1e-3)


@pytest.mark.parametrize(
    ("low", "up"), [([0.0, 0.0], [0.0, 0.0]), ([3.0, -1.0], [3.0, -1.0]), ([1.0, 2.0], [-1.0, -2.0])]
)
def test_nothing_to_exchange_or_to_pay_is_no_wrong_scale(low: list[float], up: list[float]) -> None:
    agents = {"low": Parabola(2.0, low), "up": Parabola(2.0, up)}
    result = admm.solve(agents, [coupling("low-up", "low", "up", periods=2, scale=2.0, price_scale=5.0)])
    assert result.converged and result.note == ""


def test_a_run_that_goes_on_knows_the_sizes_it_has_seen(tmp_path) -> None:
    from admm.resume import Checkpoints

    quantity = admm.Quantity("p_mw", PERIODS, scale=1e9, price_scale=50.0)
    couplings = [admm.Coupling("plant-grid", "plant", "grid", [quantity])]

    def go(resume: bool, **changes) -> admm.Result:
        kept = Checkpoints(tmp_path, {"case": "far"}, every_seconds=1e-9, resume=resume)
        return admm.solve(agents("piqp"), couplings, admm.Settings(**changes), checkpoints=kept)

    whole = solve("piqp", scale=1e9)
    go(False, max_iterations=20)
    resumed = go(True)
    assert (resumed.status, resumed.iterations, resumed.note) == (whole.status, whole.iterations, whole.note)
    assert whole.status is admm.Status.SCALES


def test_a_pair_at_its_own_scale_has_no_note() -> None:
    assert pair().solve(max_iterations=2).note == ""
