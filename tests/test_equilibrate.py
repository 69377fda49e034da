"""Programs that state no sizes: whatever their units, the agent finds the optimum that cvxpy finds in MW."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

import admm
from subproblems import QPAgent, QuadraticProgram
from subproblems.equilibrate import sizes

PERIODS, KEY = 6, ("plant-grid", "p_mw")
PRICE = 40 + 20 * np.sin(np.arange(PERIODS) / 4)
LOAD_MW, MOST_MW, MOST_MWH, END_MWH, WEAR = 0.4, 0.5, 1.5, 0.5, 1.0
OF_OPTIMUM = 1e-4


def battery(power: float, energy: float, cost: float = 1.0) -> QuadraticProgram:
    """A load and a battery; power, energy: units of its private powers and energies in one MW and one MWh."""
    eye = sp.identity(PERIODS, format="csc")
    before = sp.csc_matrix(np.eye(PERIODS) - np.eye(PERIODS, k=-1))
    last = sp.csc_matrix(([1.0], ([0], [PERIODS - 1])), (1, PERIODS))
    A = sp.bmat(
        [
            [power * eye, -eye, None],
            [None, -energy / power * eye, before],
            [None, eye, None],
            [None, None, eye],
            [None, None, last],
        ]
    )
    zero, most = np.zeros(PERIODS), np.full(PERIODS, MOST_MW * power)
    full = np.full(PERIODS, MOST_MWH * energy)
    load = np.full(PERIODS, LOAD_MW * power)
    lower, upper = np.r_[load, zero, -most, zero, END_MWH * energy], np.r_[load, zero, most, full, full[:1]]
    wear = sp.block_diag([0.0 * eye, 2.0 * WEAR * cost / power**2 * eye, 0.0 * eye])
    return QuadraticProgram(wear, np.zeros(3 * PERIODS), A, lower, upper, {KEY: np.arange(PERIODS)}, name="battery")


def grid(cost: float = 1.0) -> QuadraticProgram:
    eye = sp.identity(PERIODS, format="csc")
    limits = np.zeros(PERIODS), np.full(PERIODS, 2.0)
    return QuadraticProgram(8.0 * cost * eye, cost * PRICE, eye, *limits, {KEY: np.arange(PERIODS)}, name="grid")


@pytest.fixture(scope="module")
def optimum_eur() -> float:
    charge = cp.Variable(PERIODS)
    energy, taken = cp.cumsum(charge), charge + LOAD_MW
    limits = [cp.abs(charge) <= MOST_MW, energy >= 0, energy <= MOST_MWH, energy[-1] >= END_MWH]
    limits += [taken >= 0, taken <= 2.0]
    cost = 4.0 * cp.sum_squares(taken) + PRICE @ taken + WEAR * cp.sum_squares(charge)
    return float(cp.Problem(cp.Minimize(cost), limits).solve(solver=cp.CLARABEL))


UNITS = {
    "MW and MWh": (1.0, 1.0),
    "kW and kWh": (1e3, 1e3),
    "W and Wh": (1e6, 1e6),
    "kW and kJ": (1e3, 3.6e6),
    "W and J": (1e6, 3.6e9),
    "GW and MJ": (1e-3, 3.6e3),
}


@pytest.mark.parametrize("cost", [1.0, 1e6, 1e-4])
@pytest.mark.parametrize("solver", ["osqp", "piqp"])
@pytest.mark.parametrize("units", UNITS)
def test_units_and_currency_do_not_matter(units: str, solver: str, cost: float, optimum_eur: float) -> None:
    agents = {"plant": QPAgent(battery(*UNITS[units], cost), solver), "grid": QPAgent(grid(cost), solver)}
    quantity = admm.Quantity("p_mw", PERIODS, scale=1.0, price_scale=50.0 * cost)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = admm.solve(agents, [admm.Coupling("plant-grid", "plant", "grid", [quantity])])
    assert result.converged and result.iterations < 40
    assert result.objective / cost == pytest.approx(optimum_eur, rel=OF_OPTIMUM)
    assert agents["plant"].violation() < 1e-4


def test_sizes_are_the_units() -> None:
    power, energy = 1e6, 3.6e9
    program = battery(power, energy)
    found, rows = sizes(program, np.arange(PERIODS), np.ones(PERIODS))
    expected = np.repeat([1.0, power, energy], PERIODS)
    assert (np.abs(np.log10(found / expected)) < 0.5).all()
    assert rows[:PERIODS] == pytest.approx(np.maximum(power, found[PERIODS : 2 * PERIODS]))


def test_what_a_program_states_is_kept() -> None:
    scales = np.arange(1.0, 3 * PERIODS + 1), np.arange(1.0, 4 * PERIODS + 2)
    given = battery(1e3, 1e3).with_numbers(variable_scale=scales[0], row_scale=scales[1])
    for kept, stated in zip(sizes(given, np.arange(PERIODS), np.ones(PERIODS)), scales, strict=True):
        assert np.array_equal(kept, stated)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_program_without_rows_or_entries_has_the_boundary_s_size(rows: int) -> None:
    ends = np.full(rows, -np.inf), np.full(rows, np.inf)
    program = QuadraticProgram(
        np.eye(3), np.zeros(3), sp.csc_matrix((rows, 3)), *ends, {KEY: np.array([1])}, name="free"
    )
    variables, row_sizes = sizes(program, np.array([1]), np.array([7.0]))
    assert variables.tolist() == [7.0] * 3 and row_sizes.tolist() == [7.0] * rows
