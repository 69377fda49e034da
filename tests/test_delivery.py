"""Flexibility that was bought day-ahead is real: all of it called, in AC power flows and device by device.

And without the rows that are there for it, it is not: the same cases break.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import admm
from admm import Agent, InputError
from admm.commands.checks import checks_passed, checks_summary, told
from admm.commands.summary import finish_agents
from admm.output import OutputFolder
from networks.case import Case, coupling_name, load_case
from networks.case_file import BUNDLED, CASE_FILE
from networks.distribution import DistributionAgent, DistributionProgram
from networks.feeder import FeederBranch, FeederNode, feeder_from_tables
from networks.grids import grid_folder
from networks.market.activation import (
    SCENARIOS,
    TOLERANCES,
    Activation,
    Contract,
    ContractedDay,
    activation_check,
    contracted_day,
)
from networks.market.activation_findings import SUMMARY_KEYS, activation_findings
from subproblems import QPAgent, QuadraticProgram
from tests.case_tools import BUNDLED_CASE, copy_case, edit
from tests.delivered_devices import Broken, Device, Group, called, community_breaks, worst
from tests.independent_community import Leg, Reservoir
from tests.independent_model import CaseData, read_case
from tests.tolerances import EXACT, VIOLATION_PU

GRIDS = grid_folder("ieee33").parent
DELIVERED = 2 * VIOLATION_PU
"""Share of a device's power or state that a call may be short of: solvers leave this in the schedule and the award."""
BINDS = 5e-4
"""A limit is binding where the AC flow comes this near, pu or share."""
CLEARLY = 10.0
"""What breaks without rows must break by so many tolerances."""
HELD_MINUTES = 120
MORE = 1.01
"""What is called, as a multiple of what was sold, to find that there was no room for more."""
AC_SOLVER = 1e-8
"""A flow by pandapower against a closed formula."""


@dataclass(frozen=True)
class Solved:
    """A case after its day-ahead run, and the same read from its files by other code."""

    case: Case
    data: CaseData
    agents: dict[str, Agent]

    @property
    def limits_kw(self) -> dict[str, float]:
        return {coupling_name(a.name, a.network): a.connection_kw for a in self.case.table.agent}

    def activation(self) -> Activation:
        return activation_check(contracted_day(self.agents["dso"], self.limits_kw))

    def summary(self, x: np.ndarray, scheduled: np.ndarray, connections_mw: dict[str, float] | None = None) -> dict:
        """What is told of the flexibility of an operator's answer x, (n,), and of what is scheduled, (n,)."""
        connections_mw = self.case.connections_mw("dso") if connections_mw is None else connections_mw
        found = activation_findings("dso", self.agents["dso"].program, x, scheduled, connections_mw)
        return checks_summary([told(found)])

    def breaks(self, called: float = 1.0) -> dict[str, list[Broken]]:
        """By community, where so many times what was sold is called."""
        schedules = {name: self.agents[name].solution() for name in self.case.communities}
        return {name: community_breaks(self.data, name, _awards_times(called, one)) for name, one in schedules.items()}


def _awards_times(factor: float, schedule: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = ("up_kw", "down_kw", "flex_up_mw", "flex_down_mw")
    return {name: factor * value if name.endswith(ends) else value for name, value in schedule.items()}


def solve(
    folder: Path, change: Callable[[str, Agent], Agent] = lambda name, agent: agent, variant: str | None = None
) -> Solved:
    case = load_case(f"{folder}:{variant}" if variant else str(folder))
    agents = {name: change(name, case.build_agent(name)) for name in case.agents}
    assert admm.solve(agents, case.couplings, admm.Settings()).converged
    return Solved(case, read_case(folder, GRIDS, variant), agents)


# ------------------------------------------------------------------------ what is taken out


class BaseLimitsOnly(DistributionProgram):
    """Without the limits of the activated scenarios."""

    def _add_scenario(self, assembly, name, point):
        before = list(self.limits)
        super()._add_scenario(assembly, name, point)
        if self.scenarios[name].sign:
            self.limits = before


class CarelessOperator(DistributionAgent):
    def _make_program(self, scales):
        return BaseLimitsOnly(self.model, scales)


def careless_operator(name: str, agent: Agent) -> Agent:
    return CarelessOperator(agent.model) if name == "dso" else agent


def careless_communities(name: str, agent: Agent) -> Agent:
    return QPAgent(without_backing(agent.qp)) if name.startswith("ec") else agent


def without_backing(qp: QuadraticProgram) -> QuadraticProgram:
    """Without the rows that back flexibility by power and by the state."""
    lower, upper = qp.l.copy(), qp.u.copy()
    backing = [block for block in qp.rows if " behind " in block.name and " flexibility" in block.name]
    assert backing
    for block in backing:
        lower[block.entries], upper[block.entries] = -np.inf, np.inf
    return replace(qp, l=lower, u=upper)


# ------------------------------------------------------------------------ cases


@pytest.fixture(scope="module")
def winter() -> Solved:
    return solve(BUNDLED / BUNDLED_CASE)


@pytest.fixture(scope="module")
def summer() -> Solved:
    return solve(BUNDLED / BUNDLED_CASE, variant="summer")


@pytest.fixture(scope="module")
def tight_folder(tmp_path_factory) -> Path:
    """The main case with limits that bind when flexibility is called, which is held for two hours."""
    folder = copy_case(tmp_path_factory.mktemp("tight"))
    edit(CASE_FILE, "voltage_min_pu = 0.95", "voltage_min_pu = 0.97")(folder)
    edit(CASE_FILE, "voltage_max_pu = 1.05", "voltage_max_pu = 1.022")(folder)
    edit(CASE_FILE, "substation_limit_mva = 4.5", "substation_limit_mva = 3.1")(folder)
    for file in sorted((folder / "agents").glob("*.toml")):
        held = f"flexibility_duration_minutes = {HELD_MINUTES}\nimport_limit_kw"
        edit(f"agents/{file.name}", "import_limit_kw", held)(folder)
    return folder


@pytest.fixture(scope="module")
def tight(tight_folder) -> Solved:
    return solve(tight_folder)


@pytest.fixture(scope="module")
def careless(tight_folder) -> Solved:
    return solve(tight_folder, careless_operator)


# ------------------------------------------------------------------------ the grid


def test_the_operator_knows_what_the_communities_themselves_have_sold(winter):
    agreed = winter.agents["dso"].scheduled()
    for name in winter.case.communities:
        own = winter.agents[name].solution()
        for quantity in ("p_mw", "flex_up_mw", "flex_down_mw"):
            assert agreed[f"{name}-dso", quantity] == pytest.approx(own[f"connection.{quantity}"], abs=EXACT)


@pytest.mark.parametrize("case", ["winter", "summer"])
def test_all_flexibility_called_at_once_breaks_no_limit_of_the_grid(case, request):
    found = request.getfixturevalue(case).activation()
    assert found.holds, {name: getattr(found, name).broken() for name in SCENARIOS}
    assert found.down.current_share.beyond > -BINDS


def test_the_summary_is_the_worst_of_the_check(winter):
    summary, found = winter.summary(*winter.agents["dso"].latest()), winter.activation()
    assert {key: summary[key] for key in SUMMARY_KEYS} == {
        key: found.worst(kind).beyond for key, kind in SUMMARY_KEYS.items()
    }
    assert summary["ac_passed"] is True and checks_passed(summary)
    without = winter.summary(*winter.agents["dso"].latest(), {})
    assert without["ac_activation_max_connection_violation_share"] is None


@pytest.mark.parametrize(
    ("quantity", "of", "mw", "words"),
    [
        ("flex_down_mw", "ec03-offices-dso", 0.5, "more than the connection of ec03-offices-dso in period"),
        ("flex_up_mw", "ec10-solar-dso", 1.0, "more than the connection of ec10-solar-dso in period"),
        ("flex_up_mw", "dso-tso", 0.02, "MW of what is sold do not pass the substation in period"),
        ("flex_down_mw", "ec03-offices-dso", 500.0, "there is no AC power flow with all flexibility called at once"),
    ],
)
def test_what_was_promised_and_cannot_be_called_fails_the_ac_check(quantity, of, mw, words, winter):
    x, scheduled = (vector.copy() for vector in winter.agents["dso"].latest())
    for vector in (x, scheduled):
        vector[winter.agents["dso"].program.boundary[of, quantity]] += mw
    summary = winter.summary(x, scheduled)
    assert summary["ac_passed"] is False and words in summary["failed_checks"]


def test_limits_that_bind_only_when_flexibility_is_called_hold(tight):
    found = tight.activation()
    assert found.holds, {name: getattr(found, name).broken() for name in SCENARIOS}
    binding = (found.up.voltage_pu, found.down.voltage_pu, found.down.current_share, found.down.substation_share)
    assert min(one.beyond for one in binding) > -BINDS
    assert found.base.voltage_pu.beyond < -BINDS and found.base.substation_share.beyond < -BINDS


def test_without_limits_of_the_activated_scenarios_the_same_case_breaks(careless):
    found = careless.activation()
    assert not found.base.broken()
    broken = {
        (name, kind)
        for name in ("up", "down")
        for kind, one in getattr(found, name).broken().items()
        if one.beyond > CLEARLY * TOLERANCES[kind]
    }
    assert broken == {
        ("up", "voltage_pu"),
        ("down", "voltage_pu"),
        ("down", "current_share"),
        ("down", "substation_share"),
    }


@pytest.mark.parametrize(("case", "passed"), [("tight", True), ("careless", False)])
def test_a_run_says_whether_its_flexibility_can_be_called(case, passed, request, tmp_path):
    """The schedule alone keeps all limits in both; a failed check is no exit code 0."""
    solved, out = request.getfixturevalue(case), OutputFolder(tmp_path)
    out.prepare()
    summary = checks_summary([finish_agents(solved.case, {"dso": solved.agents["dso"]}, out)])
    assert summary["ac_max_current_violation_share"] < BINDS and summary["ac_max_voltage_violation_pu"] < 0
    assert summary["ac_passed"] is passed is checks_passed(summary), summary["failed_checks"]
    for way in () if passed else ("up", "down"):
        words = f"network 'dso': with all {way} flexibility called at once limits do not hold: "
        assert words in summary["failed_checks"]


# ------------------------------------------------------------------------ the devices


@pytest.mark.parametrize("case", ["winter", "summer", "tight"])
def test_every_single_call_can_be_held_and_leaves_every_device_what_it_must_do(case, request):
    for name, found in request.getfixturevalue(case).breaks().items():
        most = worst(found)
        assert max(most.power_share, most.state_share) <= DELIVERED, (name, most)


@pytest.mark.parametrize("case", ["winter", "summer", "tight"])
def test_every_community_would_break_something_if_more_were_called(case, request):
    for name, found in request.getfixturevalue(case).breaks(MORE).items():
        most = worst(found)
        assert max(most.power_share, most.state_share) > CLEARLY * DELIVERED, name


def test_without_rows_behind_flexibility_the_same_communities_break():
    found = solve(BUNDLED / BUNDLED_CASE, careless_communities).breaks()
    assert all(worst(one).power_share > CLEARLY * DELIVERED for one in found.values())
    assert all(worst(one).state_share > CLEARLY * DELIVERED for one in found.values())
    with_power = {
        one.device for each in found.values() for one in each if one.power_share <= DELIVERED < one.state_share
    }
    assert {"battery.", "cars.cars_", "cars.noon-vans_"} <= with_power  # the power is there, the energy is not


def test_a_store_is_called_by_hand():
    """5 kWh, and 4 kWh must be there at the end; it charges with 1 kW and discharges with 3 kW, without losses."""
    legs = [Leg(1.0, np.ones(2), np.ones(2)), Leg(-1.0, -np.ones(2), 3 * np.ones(2))]
    store = Reservoir(np.ones(2), np.zeros(2), np.array([0.0, 4.0]), 10 * np.ones(2), 5.0, legs)
    device = Device("b.", store, ("b.charge_kw", "b.discharge_kw"), (Group("b.", (0, 1)),))

    def broken(first_kw: float, last_kw: float) -> tuple[float, float]:
        at_rest = {name: np.zeros(2) for name in device.powers}
        found = called(device, at_rest | {"b.up_kw": np.array([first_kw, last_kw])}, "up", 1, 1)
        return found.power_share, found.state_share

    assert broken(2.0, 1.0) == pytest.approx((0.0, 0.0), abs=EXACT)
    assert broken(2.5, 0.0) == pytest.approx((0.0, 0.5 / 4), abs=EXACT)
    assert broken(0.0, 1.5) == pytest.approx((0.0, 0.5 / 4), abs=EXACT)
    assert broken(4.0, 0.0)[0] == pytest.approx(1.0 / 4, abs=EXACT)


# ------------------------------------------------------------------------ the check itself


R_PU, X_PU, RATING_PU, LIMIT_MVA, LIMIT_KW, LEAST_PU, SUPPORT_MVAR = 0.02, 0.01, 1.5, 1.4, 1200.0, 0.98, -0.1


def one_branch(**options) -> ContractedDay:
    """A contract of 1 MW, half a MW up and down, at power factor 0.9 at the end of one branch, in two periods."""
    nodes = [FeederNode("0"), FeederNode("1", v_min_pu=LEAST_PU)]
    feeder = feeder_from_tables("short", "0", nodes, [FeederBranch("line", "0", "1", R_PU, X_PU, RATING_PU)])
    p, half = np.ones(2), np.full(2, 0.5)
    contract = options.pop("contract", Contract("1", p, half, half, 0.9, LIMIT_KW))
    sold = {"up": half, "down": half + 0.01}
    support = {"1": np.full(2, SUPPORT_MVAR)}
    options = {"substation_limit_mva": LIMIT_MVA, "sold_mw": sold, "support_mvar": support} | options
    return ContractedDay(feeder, np.zeros((2, 2)), np.zeros((2, 2)), {"a": contract}, **options)


def closed_form(p: float) -> tuple[float, float, complex]:
    """Voltage, current and substation's power of the branch: V^4 + (2 (r P + x Q) - 1) V^2 + |z|^2 |S|^2 = 0."""
    q = p * np.tan(np.arccos(0.9)) + SUPPORT_MVAR
    half = 0.5 - (R_PU * p + X_PU * q)
    squared = half + np.sqrt(half**2 - (R_PU**2 + X_PU**2) * (p**2 + q**2))
    current_sq = (p**2 + q**2) / squared
    return np.sqrt(squared), np.sqrt(current_sq), complex(p + R_PU * current_sq, q + X_PU * current_sq)


def test_margins_of_one_branch_are_those_of_the_closed_formula():
    found = activation_check(one_branch())
    root = {name: closed_form(p)[2] for name, p in (("base", 1.0), ("up", 0.5), ("down", 1.5))}
    for name, p in (("base", 1.0), ("up", 0.5), ("down", 1.5)):
        voltage, current, _ = closed_form(p)
        mine = getattr(found, name)
        assert mine.voltage_pu.beyond == pytest.approx(LEAST_PU - voltage, abs=AC_SOLVER)
        assert mine.current_share.beyond == pytest.approx(current / RATING_PU - 1, abs=AC_SOLVER)
        assert mine.substation_share.beyond == pytest.approx(abs(root[name]) / LIMIT_MVA - 1, abs=AC_SOLVER)
        assert mine.connection_share.beyond == pytest.approx(1000 * p / LIMIT_KW - 1, abs=AC_SOLVER)
    gained = (root["base"] - root["up"]).real, (root["down"] - root["base"]).real
    assert found.up.passed_on_mw.beyond == pytest.approx(0.5 - gained[0], abs=AC_SOLVER)
    assert found.down.passed_on_mw.beyond == pytest.approx(0.51 - gained[1], abs=AC_SOLVER)
    assert set(found.down.broken()) == {"voltage_pu", "current_share", "substation_share", "connection_share"}
    assert found.worst("current_share") == found.down.current_share and not found.holds


def test_a_break_is_named_with_its_place_and_periods_that_are_over_do_not_count():
    many = Contract("1", np.array([3.0, 0.8]), np.zeros(2), np.zeros(2))
    found = activation_check(one_branch(contract=many, sold_mw={}))
    assert (found.base.current_share.where, found.base.current_share.period) == ("line", 0)
    assert activation_check(one_branch(contract=many, sold_mw={}, periods_over=1)).holds


def test_what_is_not_there_is_refused():
    with pytest.raises(InputError, match="contract 'a': up_mw is .* expected 2 finite numbers"):
        one_branch(contract=Contract("1", np.ones(2), np.ones(3), np.ones(2)))
    with pytest.raises(InputError, match="no node 'x'"):
        activation_check(one_branch(contract=Contract("x", np.ones(2), np.ones(2), np.ones(2))))
    with pytest.raises(InputError, match="no AC power flow"):
        activation_check(one_branch(contract=Contract("1", np.full(2, 99.0), np.ones(2), np.ones(2))))
