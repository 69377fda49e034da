"""Realised flows: what happened on a feeder against AC flows and its limits, found where and when it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.realised_flows import branch_loading
from networks.ac_check import ac_flow
from networks.case import load_case
from networks.market.realised import realised_check
from tests.case_tools import BUNDLED_CASE, tieline
from tests.market_tools import CARS, HOMES, Day, run_day, small_case, write_scenario
from tests.tolerances import EXACT

PERIODS = 3
NOT_PASSED = 3


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return run_day(small_case(tmp_path_factory.mktemp("realised"), PERIODS))


def happened(day: Day) -> tuple[np.ndarray, np.ndarray]:
    """What every node consumed, (T, n) MW and Mvar, put together from what was exchanged."""
    model, boundary = day.market.intraday.feeders["dso"].model, day.closing.boundary
    p, q = model.load_p_mw.copy(), model.load_q_mvar.copy()
    for one in model.connections:
        drawn, at = boundary[one.coupling]["p_mw"].lower, model.feeder.node(one.node)
        p[:, at] += drawn
        q[:, at] += drawn * np.tan(np.arccos(one.power_factor))
    for node, q_mvar in day.market.intraday.feeders["dso"].support_mvar().items():
        q[:, model.feeder.node(node)] += q_mvar
    return p, q


def test_a_day_inside_its_limits_has_no_overload(day: Day) -> None:
    found = realised_check(day.market.intraday.feeders["dso"], {})
    assert found.overloads == () and all(worst < 0 for worst in found.worst.values())


@pytest.mark.parametrize("kind", ["current_share", "voltage_pu", "substation_share"])
def test_every_element_beyond_its_limit_is_found_with_its_hour(kind: str, day: Day) -> None:
    """Limits are drawn in to just below the largest value, which pandapower finds at one place and hour."""
    feeder = day.market.intraday.feeders["dso"]
    model, flow = feeder.model, ac_flow(feeder.model.feeder, *happened(day))
    if kind == "current_share":
        value, names = flow.current_pu, model.feeder.branches
        limits = np.where(value.max(axis=0) == value.max(), value.max() / 1.02, 10 * value.max())
        changed, beyond = replace(model, feeder=replace(model.feeder, i_max_pu=limits)), 0.02
    elif kind == "voltage_pu":
        value, names = -flow.voltage_pu[:, 1:], model.feeder.nodes[1:]
        low = model.feeder.v_min_pu.copy()
        low[1 + value.max(axis=0).argmax()] = flow.voltage_pu.min() + 0.003
        changed, beyond = replace(model, feeder=replace(model.feeder, v_min_pu=low)), 0.003
    else:
        value, names = np.hypot(flow.root_p_mw, flow.root_q_mvar)[:, None], ["substation"]
        changed, beyond = replace(model, substation_limit_mva=float(value.max() / 1.05)), 0.05
    period, at = np.unravel_index(value.argmax(), value.shape)
    feeder.model = changed
    try:
        found = realised_check(feeder, {})
    finally:
        feeder.model = model
    worst = max((one for one in found.overloads if one.kind == kind), key=lambda one: one.beyond)
    assert (worst.network, worst.where, worst.period) == ("dso", names[at], period)
    assert worst.beyond == pytest.approx(beyond, abs=1e-5) and found.worst[kind] == pytest.approx(worst.beyond)
    assert {one.kind for one in found.overloads} == {kind}


def test_a_network_made_from_the_table_of_branches_is_loaded_alike() -> None:
    """The benchmark's own network against the check's; reactive support relieves both."""
    case, bus = load_case(BUNDLED_CASE), "18"
    (operator,) = case.folder.distribution
    model = case.distribution_model(operator)
    p, q, support = model.load_p_mw[:2], model.load_q_mvar[:2].copy(), np.array([-0.2, -0.1])
    loads = {node: p[:, at] + 1j * q[:, at] for at, node in enumerate(model.feeder.nodes)}
    found = branch_loading(operator, loads, {bus: support})
    q[:, model.feeder.node(bus)] += support
    expected = ac_flow(model.feeder, p, q).current_pu / model.feeder.i_max_pu
    in_order = [model.feeder.branches.index(f"branch {number}") for number in range(1, 33)]
    assert found == pytest.approx(expected[:, in_order], rel=1e-5)
    assert found.max() < branch_loading(operator, loads, {}).max()


def test_an_overload_is_said_with_branch_time_and_size_and_is_no_success(tmp_path: Path, capsys) -> None:
    """The last hour's load is three times what everybody expected: nobody can do anything about it any more."""
    path = small_case(tmp_path, PERIODS)
    case = load_case(str(path))
    load = case.profiles.series("feeder_load_pu").copy()
    load[-1] *= 3.0
    scenario, out = write_scenario(path, "feeder_load_pu", load.tolist()), tmp_path / "out"
    ended = tieline(capsys, "market", path, "--scenario", scenario, "--out", out)
    assert ended.code == NOT_PASSED, ended
    told = json.loads((out / "settlement" / "summary.json").read_text())
    assert told["converged"] is True
    assert told["ac_passed"] is False and told["realised_overloads"] > 0
    assert told["failed_checks"].startswith("realised overloads: ")
    first = told["realised_overload_words"].partition(";")[0]
    assert "of 'dso'" in first and first.endswith(f"at {case.horizon.stamps()[-1]:%Y-%m-%d %H:%MZ}")
    assert "NOT passed: " in ended.out and first in ended.out
    assert told["ac_max_current_violation_share"] > 1e-3 or told["ac_max_voltage_violation_pu"] > 5e-5


def test_operators_have_files_of_what_happened(tmp_path: Path, capsys) -> None:
    """Flows and voltages of the realised load; generation and balancing add up to what was drawn."""
    path, out = small_case(tmp_path, PERIODS), tmp_path / "out"
    assert tieline(capsys, "market", path, "--out", out).code == 0
    with h5py.File(out / "intra-day" / "boundary.h5") as file:
        drawn = {name: file[f"{name}/p_mw/lower"][:] for name in file}
    with h5py.File(out / "intra-day" / "private" / "dso.h5") as file:
        assert not [name for name in file if name in ("up", "down")]
        voltage, losses = file["base/voltage_pu"][:], file["base/losses_mw"][:]
        for name in (f"{HOMES}-dso", f"{CARS}-dso"):
            assert file[f"{name}/p_mw"][:] == pytest.approx(drawn[name], abs=1e-3)
        assert list(file[f"{HOMES}-dso"]) == ["p_mw"], "flexibility that is over says nothing"
    assert voltage.shape == (PERIODS, 33) and (losses > 0).all() and (voltage > 0.9).all()
    with h5py.File(out / "intra-day" / "private" / "tso.h5") as file:
        balancing = file["market/balancing_mw"][:]
        assert balancing.shape == (PERIODS,) and "reserve_short_up_mw" not in file["market"]
    agents = (out / "settlement" / "settlement.csv").read_text().splitlines()
    paid = [line.split(",") for line in agents if ",balancing," in line]
    mwh = sum(float(cells[8]) for cells in paid)
    feeders = 25
    assert mwh == pytest.approx(balancing.sum() / feeders, abs=EXACT)
