"""A schedule that no network carries, or that breaks limits, does not pass, and the fault says where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import admm
from admm.commands.checks import checks_passed, checks_summary, told
from networks.case import load_case
from networks.feeder_limits import AGREED_SHARE, margins
from networks.flow_checks import check_flows
from tests.test_feeder_settings import small_case


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A small case, its operator's program, x and what is scheduled, after a run."""
    case = load_case(str(small_case("ext_grid_vm_ignored", tmp_path_factory.mktemp("solved"))))
    agents = {name: case.build_agent(name) for name in case.agents}
    assert admm.solve(agents, case.couplings).converged
    return case, agents["dso"].program, *agents["dso"].latest()


def limited(program, **changes):
    """The same operator with other limits."""
    model = program.model
    substation = changes.pop("substation_limit_mva", np.inf)
    feeder = replace(model.feeder, **{key: change(getattr(model.feeder, key)) for key, change in changes.items()})
    return replace(model, feeder=feeder, substation_limit_mva=substation)


def summary_of(case, program, x, scheduled, model=None):
    own = program.model
    program.model = model or own
    try:
        return checks_summary([told(check_flows(case, "dso", program, x, scheduled))])
    finally:
        program.model = own


def test_a_schedule_that_holds_passes(solved) -> None:
    found = summary_of(*solved)
    assert found["ac_passed"] is True and found["gas_passed"] is None and checks_passed(found)
    assert found["ac_max_voltage_violation_pu"] < 0 and found["ac_max_current_violation_share"] < 0
    assert found["ac_max_substation_violation_share"] is None


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"v_min_pu": lambda v: np.full_like(v, 1.02)}, "ac_max_voltage_violation_pu", "pu at bus 2 in period 0 (volt"),
        ({"v_max_pu": lambda v: np.full_like(v, 1.02)}, "ac_max_voltage_violation_pu", "pu at bus 1 in period 0 (volt"),
        ({"i_max_pu": lambda i: 0.3 * i}, "ac_max_current_violation_share", "of the rating of "),
        ({"substation_limit_mva": 5.0}, "ac_max_substation_violation_share", "MVA at the substation in period"),
    ],
)
def test_a_broken_limit_is_named_and_fails(solved, changes, key, words) -> None:
    case, program, x, scheduled = solved
    found = summary_of(case, program, x, scheduled, limited(program, **changes))
    assert found["ac_passed"] is False and not checks_passed(found)
    assert found[key] > 0
    assert "network 'dso': limits do not hold: " in found["failed_checks"] and words in found["failed_checks"]


def test_a_schedule_without_a_flow_fails(solved) -> None:
    case, program, x, scheduled = solved
    beyond = scheduled.copy()
    beyond[program.boundary["a1-dso", "p_mw"]] = 5000.0
    found = summary_of(case, program, x, beyond)
    assert found["ac_max_voltage_error_pu"] is None and found["ac_passed"] is False
    assert found["failed_checks"] == "network 'dso': there is no AC power flow for this schedule"


def test_what_agents_and_operator_need_not_agree_on_is_no_overload(solved) -> None:
    """A branch may exceed its rating by the share of the connections behind it that a run leaves open."""
    _, program, _, scheduled = solved
    flow = program.exact_flow(scheduled)
    loading = flow.current_pu.max(axis=0)
    model = limited(program, i_max_pu=lambda i: loading / 1.002)
    size_mw = 0.003 / AGREED_SHARE * loading.max()
    assert all(one.exceeded for one in margins(model, flow) if one.what == "current")
    assert not any(one.exceeded for one in margins(model, flow, {"a1-dso": size_mw}) if one.what == "current")
    assert all(one.exceeded for one in margins(model, flow, {"a1-dso": size_mw / 10}) if one.what == "current")
