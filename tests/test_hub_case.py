"""The case with hubs and gas: what it is made of, bad input, and a run from end to end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from admm import InfeasibleError
from benchmarks.flexibility import held, stand_alone
from networks.case import load_case
from networks.case_file import CASE_FILE
from networks.centralised import solve_centralised
from networks.gas_flow import GasFlow
from networks.grids import GAS, grid_folder
from subproblems import QPAgent
from tests.bad_files import Bad
from tests.case_tools import Mutation, copy_case, edit, tieline
from tests.test_bad_input import check_refused
from tests.tolerances import FLOW_PU, LOSS_SHARE, OF_TURNOVER, VIOLATION_PU

CASE = "feeder118-gas65"
ESTATE = "agents/h01-estate.toml"
PRESSURE_BAR = 1e-3
SAME_RUN = 1e-9


BOILER = '[[devices]]\nkind = "gas_boiler"\nname = "boiler"\nmax_heat_kw = 100.0\n\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[dict, Path]:
    """The summary and the folder of a run of the winter day."""
    from admm.cli import main

    out = tmp_path_factory.mktemp("hubs") / "out"
    assert main(["run", CASE, "--qp-solver", "piqp", "--out", str(out)]) == 0
    return json.loads((out / "summary.json").read_text(encoding="utf-8")), out


def test_hubs_couple_with_both_operators() -> None:
    case = load_case(CASE)
    quantities = {c.name: [q.name for q in c.quantities] for c in case.couplings}
    assert quantities["h01-estate-dso"] == ["p_mw", "flex_up_mw", "flex_down_mw"]
    assert quantities["h01-estate-gas"] == ["gas_mw"]
    assert "h11-hydrogen-gas" not in quantities  # a hub without a gas connection
    assert len(quantities) == 16 + 15 and set(case.operators) == {"dso", "gas"}


def test_one_operator_of_both_has_one_coupling_a_hub() -> None:
    case = load_case(f"{CASE}:one-operator")
    quantities = {c.name: [q.name for q in c.quantities] for c in case.couplings}
    assert quantities["h01-estate-dso"] == ["p_mw", "flex_up_mw", "flex_down_mw", "gas_mw"]
    assert len(quantities) == 16 and set(case.operators) == {"dso"}


def test_a_run_ends_at_the_optimum_with_true_flows(run) -> None:
    summary, _ = run
    reference = load_case(CASE).folder.reference()[CASE]
    off = summary["objective_eur"] - reference["objective_eur"]
    assert summary["converged"] and abs(off) <= OF_TURNOVER * reference["turnover_eur"]
    assert summary["max_violation_pu"] <= VIOLATION_PU
    assert summary["ac_max_voltage_error_pu"] <= FLOW_PU and summary["ac_max_loss_error"] <= LOSS_SHARE
    assert summary["gas_max_pressure_error_bar"] <= PRESSURE_BAR


def test_pressures_in_the_results_are_those_of_the_hubs_own_gas(run) -> None:
    """From the files alone: hubs' boundary values and the public demand, through the exact flow."""
    import h5py

    _, out = run
    case = load_case(CASE)
    (table,), grid = case.folder.gas, case.gas_grids["gas"]
    demand = case.gas_model(table).demand_mw.copy()
    with h5py.File(out / "boundary.h5") as file:
        for hub in case.folder.gas_hubs:
            demand[:, grid.node(str(hub.gas_node))] += file[f"{hub.name}-gas/gas_mw/lower"][:]
    with h5py.File(out / "private" / "gas.h5") as file:
        shown = file["gas/pressure_bar_g"][:]
    gates = shown[:, grid.gate_nodes] + grid.ambient_bar[grid.gate_nodes]
    exact = GasFlow(grid).run(demand, gates)
    assert exact.converged.all()
    assert shown + grid.ambient_bar == pytest.approx(exact.p_bar, abs=PRESSURE_BAR)


def test_emissions_and_their_cost_are_told(run) -> None:
    """By hand from the boundary: 0.4 kg a kWh of electricity, 0.182 a kWh of gas."""
    import h5py

    _, out = run
    with h5py.File(out / "private" / "h01-estate.h5") as own, h5py.File(out / "boundary.h5") as file:
        power, gas = file["h01-estate-dso/p_mw/lower"][:], file["h01-estate-gas/gas_mw/lower"][:]
        assert own["connection/emissions_kg"][:] == pytest.approx(400 * power + 182 * gas, abs=1e-2)


def test_ranks_do_not_change_the_result(run, mpirun, tmp_path: Path) -> None:
    summary, _ = run
    out = tmp_path / "apart"
    done = mpirun(3, "-m", "admm", "run", CASE, "--qp-solver", "piqp", "--out", str(out))
    assert done.returncode == 0, done.stderr
    apart = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert apart["iterations"] == summary["iterations"]
    assert apart["objective_eur"] == pytest.approx(summary["objective_eur"], rel=SAME_RUN)


def own_pipes(file: str, old: str, new: str) -> Mutation:
    """The case with a gas network in a folder of its own, one text of which is changed; old "": only the head stays."""

    def change(case: Path) -> None:
        edit(CASE_FILE, 'source = "gas65"', 'source = "pipes"')(case)
        shutil.copytree(grid_folder("gas65", GAS), case / "pipes", copy_function=shutil.copyfile)
        text = (case / "pipes" / file).read_text(encoding="utf-8")
        changed = text.replace(old, new, 1) if old else text.splitlines()[0] + "\n"
        assert changed != text
        (case / "pipes" / file).write_text(changed, encoding="utf-8")

    return change


BAD = {
    "gas network without a source": Bad(
        own_pipes("gate.csv", "", ""), ("pipes", "gate.csv: has no rows", "expected at least one gate")
    ),
    "every source lost": Bad(
        edit(CASE_FILE, "price_eur_per_mwh = 18.0", 'lost_gates = ["city gate East", "city gate West"]'),
        ("case.toml", "network 'gas'", "at least one source"),
    ),
    "disconnected node": Bad(
        own_pipes("node.csv", "\n2,", "\n90,residential,0,0,0,1.5,4,100,,0\n2,"),
        ("pipes", "no pipe connects node 90 with a gate"),
    ),
    "pipe without a diameter": Bad(
        own_pipes("pipe.csv", "147.2", "0"), ("pipes", "inner_diameter_mm is 0", "at least 1e-09")
    ),
    "pipe without a length": Bad(
        own_pipes("pipe.csv", "0.833", "0"), ("pipe 1", "length_km is 0 and it has no fittings")
    ),
    "crossed pressure limits": Bad(
        own_pipes("node.csv", "1.843,0.0,1.5,4.0", "1.843,0.0,4.5,4.0"),
        ("pipes", "p_min_bar_g is 4.5 and p_max_bar_g is 4"),
    ),
    "gas device in a hub without a gas node": Bad(
        edit("agents/h11-hydrogen.toml", "[[devices]]", BOILER + "[[devices]]"),
        ("agents/h11-hydrogen.toml", "boiler", "gas_connection_kw"),
    ),
    "unknown gas network": Bad(
        edit(CASE_FILE, 'gas_network = "gas"', 'gas_network = "gaz"'),
        ("case.toml", "agent 'h01-estate': gas_network = 'gaz'", "did you mean 'gas'?"),
    ),
    "unknown gas node": Bad(
        edit(CASE_FILE, "gas_node = 5\n", "gas_node = 500\n"),
        ("case.toml", "agent 'h01-estate': gas_node = 500", "its buses are 1 to 65"),
    ),
    "half a gas connection": Bad(
        edit(CASE_FILE, "gas_node = 5\n", ""), ("case.toml", "agent 'h01-estate'", "gas_node is missing")
    ),
    "gas device without a connection": Bad(
        edit(ESTATE, "gas_connection_kw = 1500.0\n", ""),
        (ESTATE, "gas_connection_kw is missing", "at most 1500 kW"),
    ),
    "connection above the public one": Bad(
        edit(ESTATE, "gas_connection_kw = 1500.0", "gas_connection_kw = 1600.0"),
        (ESTATE, "gas_connection_kw = 1600 is above gas_connection_kw = 1500"),
    ),
    "gas key of a community": Bad(
        edit(CASE_FILE, 'name = "h01-estate"\nkind = "hub"', 'name = "h01-estate"\nkind = "community"'),
        ("case.toml", "agent 'h01-estate'", "gas_network"),
    ),
    "lost gate that there is not": Bad(
        edit(CASE_FILE, "price_eur_per_mwh = 18.0", 'price_eur_per_mwh = 18.0\nlost_gates = ["South"]'),
        ("case.toml", "network 'gas'", "there is no gate 'South'", "city gate West"),
    ),
    "no profile of a kind of demand": Bad(
        edit(CASE_FILE, 'industrial = "gas_industrial_pu"', 'industry = "gas_industrial_pu"'),
        ("case.toml", "network 'gas'", "there is no profile 'industrial'"),
    ),
    "unknown column": Bad(
        edit(CASE_FILE, 'industrial = "gas_industrial_pu"', 'industrial = "gas_industry_pu"'),
        ("case.toml", "demand_profiles.industrial", "no column 'gas_industry_pu'"),
    ),
    "PV without a profile": Bad(
        edit(CASE_FILE, "load_scale = 0.8\n", "load_scale = 0.8\npv_scale = 1.5\n"),
        ("case.toml", "network 'dso'", "pv_scale is 1.5 and pv_profile is 0.0", "give both"),
    ),
    "no source of electricity": Bad(
        edit(CASE_FILE, 'supply_price_eur_per_mwh = "day_ahead_price_eur_per_mwh"\n', ""),
        ("case.toml", "network 'dso'", "neither of upstream and supply_price_eur_per_mwh"),
    ),
    "operator that there is not": Bad(
        edit(CASE_FILE, 'source = "gas65"', 'source = "gas65"\noperator = "dzo"'),
        ("case.toml", "network 'gas': operator = 'dzo'", "did you mean 'dso'?"),
    ),
    "electric grid as a gas network": Bad(
        edit(CASE_FILE, 'source = "gas65"', 'source = "ieee33"'),
        ("case.toml", "network 'gas'", "'ieee33'", "bundled grids: gas65"),
    ),
    "CHP that gives more than it takes": Bad(
        edit(ESTATE, "thermal_efficiency = 0.46", "thermal_efficiency = 0.76"),
        (ESTATE, "chp 'chp'", "add up to 1.1, expected at most 1"),
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_hub_cases_are_refused_in_one_line(bad: Bad, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path, CASE)
    bad.change(case)
    check_refused(tieline(capsys, "check", case), bad.words)


def test_without_flexibility_a_lost_gate_is_not_survived_and_the_periods_are_named() -> None:
    """Fixed demand and what hubs draw alone are above the other gate's capacity at the hours that are named."""
    case = load_case(f"{CASE}:gate-lost")
    held_fast = {hub: held(case, hub, stand_alone(case, hub), ()) for hub in case.communities}
    agents = {name: case.build_agent(name, "piqp") for name in case.operators}
    agents |= {hub: QPAgent(program) for hub, program in held_fast.items()}
    with pytest.raises(InfeasibleError, match="gas: .*flow of gate city gate West.*capacity") as caught:
        solve_centralised(case, agents=agents)
    (table,) = case.folder.gas
    drawn = case.gas_model(table).demand_mw.sum(axis=1)
    for hub, program in held_fast.items():
        for (_, quantity), at in program.boundary.items():
            if quantity == "gas_mw":
                drawn = drawn + stand_alone(case, hub)[at]
    first = re.search(r"capacity \(periods? (\d+)", str(caught.value)).group(1)
    assert drawn[int(first)] > case.gas_grids["gas"].gates[0].max_flow_mw
