"""A community through the day: what is frozen, what gives way and what really happened, against hand-written models.

One community of load, PV, battery and heat pump with a tank, eight hours. It is cleared day-ahead at given prices, and
forecasts then fail. No coordination takes part: the prices stay given.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from admm import AgentBoundary, AnswerStatus, InfeasibleError, Question
from networks.market.community_day import CommunityDay
from networks.market.intraday_program import ROOM_SHARE, IntradayProgram, Relief
from subproblems import QPAgent, QuadraticProgram
from tests.device_reference import COUPLING, QUANTITIES, Prices, columns, compiled, horizon, solve_program
from tests.independent_hub import GAS_COUPLING, compiled_hub, solve_hub
from tests.test_hub import BOILER, HEAT, TANK
from tests.tolerances import EXACT, SOLVER

N, GATE = 8, 4
SOLVED_KW = 1e-3
"""Powers and energies of a solved program, of some 10 kW."""
ROOM = 20 * ROOM_SHARE
"""kW or kWh: the room that solvers are given, for states of up to 20 kWh a period."""
LIMIT_KW = 30.0
LOAD = np.array([8.0, 9, 10, 12, 12, 11, 9, 8])
SUN = np.array([0.0, 0.2, 0.5, 0.8, 0.7, 0.4, 0.1, 0.0])
HEAT_KW = np.array([9.0, 9, 8, 6, 5, 6, 8, 9])
DEVICES = [
    {"kind": "load", "name": "homes", "power_kw": "load"},
    {"kind": "pv", "name": "roof", "installed_kw": 30, "available_pu": "sun"},
    {"kind": "battery", "name": "bat", "capacity_kwh": 40, "charge_kw": 12, "discharge_kw": 12, "min_share": 0.1,
     "charge_efficiency": 0.9, "discharge_efficiency": 0.9, "initial_share": 0.5},
    {"kind": "heat_pump", "name": "hp", "max_kw": 5, "outdoor_temperature_degc": 7, "cop_at_7c": 3.0,
     "heat_demand_kw": "heat", "tank_kwh": 20, "tank_loss_per_h": 0.05, "initial_share": 0.5},
]  # fmt: skip
"""Battery: 4 to 40 kWh, 20 at the start and in the end. Tank: 0 to 20 kWh of heat, 10 at the start and in the end."""
ASKED = Prices(np.array([60.0, 40, 20, 30, 90, 120, 80, 50]), np.full(N, 15.0), np.full(N, 12.0))
RELIEF = Relief(state_eur_per_kwh=0.8, connection_eur_per_mwh=3000.0)


def program(load=LOAD, sun=SUN, heat=HEAT_KW) -> QuadraticProgram:
    limits = {"import_limit_kw": LIMIT_KW, "export_limit_kw": LIMIT_KW}
    series = columns(N, load=np.asarray(load), sun=np.asarray(sun), heat=np.asarray(heat))
    return compiled(DEVICES, horizon(N), series, **limits)


def schedule_of(qp: QuadraticProgram) -> np.ndarray:
    """The community's answer to the prices, shape (n,)."""
    values = solve_program(qp, ASKED, 1.0)[1]
    return np.concatenate([values[block.name] for block in qp.variables])


@pytest.fixture(scope="module")
def cleared() -> tuple[QuadraticProgram, np.ndarray]:
    """The day-ahead program and its schedule."""
    qp = program()
    return qp, schedule_of(qp)


def intraday(qp: QuadraticProgram, terminal_eur_per_kwh: float = 0.0) -> IntradayProgram:
    return IntradayProgram(qp, COUPLING, 1.0, RELIEF, terminal_eur_per_kwh)


def tank_kwh(power_kw: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """By hand: loses 5 % an hour, takes 3 kWh of heat a kWh."""
    level, found = 10.0, []
    for power, demand in zip(power_kw, heat, strict=True):
        level = 0.95 * level + 3.0 * power - demand
        found.append(level)
    return np.array(found)


def warm_kw(power_kw: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """By hand: the power that is told, and as much more as keeps the tank at 0, up to 5 kW."""
    level, found = 10.0, []
    for power, demand in zip(power_kw, heat, strict=True):
        cold = 0.95 * level + 3.0 * power - demand
        found.append(min(5.0, power + max(0.0, -cold) / 3.0))
        level = 0.95 * level + 3.0 * found[-1] - demand
    return np.array(found)


def battery_kwh(charge_kw: np.ndarray, discharge_kw: np.ndarray) -> np.ndarray:
    return 20.0 + np.cumsum(0.9 * charge_kw - discharge_kw / 0.9)


FAILED = {"load": LOAD + 2.0, "sun": 0.6 * SUN, "heat": HEAT_KW + np.array([1.0, 1, 1, 1, 0, 0, 1, 1])}
POWERS = ("roof.production_kw", "bat.charge_kw", "bat.discharge_kw", "hp.power_kw")
AWARDS = ("roof.up_kw", "roof.down_kw", "bat.up_kw", "bat.down_kw", "hp.up_kw", "hp.down_kw")


def test_what_is_over_is_frozen(cleared) -> None:
    qp, x = cleared
    made, latest = intraday(qp), program(**FAILED)
    done = made.realised(latest, x)
    now, given_way = made.program(latest, GATE, done)
    assert given_way == {}
    was, schedule = qp.values(done), solve_program(now, ASKED, 1.0)[1]
    assert set(POWERS) | set(AWARDS) == {block.name for block in qp.variables if block.unit == "kW"}
    for name in POWERS:
        assert schedule[name][:GATE] == pytest.approx(was[name][:GATE], abs=SOLVED_KW)
    assert any(was[name][:GATE].max() > 1.0 for name in AWARDS)
    for name in AWARDS:
        assert schedule[name][:GATE] == pytest.approx(0.0, abs=SOLVED_KW)
    for direction in ("up", "down"):
        flexibility_kw = 1e3 * schedule[f"connection.flex_{direction}_mw"]
        assert flexibility_kw[:GATE] == pytest.approx(0.0, abs=SOLVED_KW) and flexibility_kw[GATE:].max() > 1.0
    heat, power = tank_kwh(schedule["hp.power_kw"], FAILED["heat"]), schedule["hp.power_kw"]
    assert schedule["hp.tank_kwh"] == pytest.approx(heat, abs=SOLVED_KW)
    stored = battery_kwh(schedule["bat.charge_kw"], schedule["bat.discharge_kw"])
    assert schedule["bat.energy_kwh"] == pytest.approx(stored, abs=SOLVED_KW)
    assert np.abs(power[GATE:] - was["hp.power_kw"][GATE:]).max() > 0.1, "the rest of the day is decided anew"
    drawn_kw = FAILED["load"] + schedule["bat.charge_kw"] - schedule["bat.discharge_kw"] + power
    drawn_kw = drawn_kw - schedule["roof.production_kw"]
    assert 1e3 * schedule["connection.p_mw"] == pytest.approx(drawn_kw, abs=SOLVED_KW)


@pytest.mark.parametrize("gate", [0, 1, GATE, N])
def test_only_bounds_and_one_cost_change(cleared, gate: int) -> None:
    """With the same matrices as day-ahead, a solver's factors and warm start stay good."""
    qp, x = cleared
    latest = program(load=LOAD + 15.0, sun=0.0 * SUN, heat=HEAT_KW + 5.0)
    now, _ = intraday(qp, 0.02).program(latest, gate, x)
    for key in ("P", "A"):
        for part in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(getattr(now, key), part), getattr(getattr(qp, key), part))
    assert (now.variable_scale == qp.variable_scale).all() and (now.row_scale == qp.row_scale).all()
    assert now.variables == qp.variables
    assert [(row.name, row.entries, row.bounds) for row in now.rows] == [(r.name, r.entries, r.bounds) for r in qp.rows]
    ends = {block.name: block.start + N - 1 for block in qp.variables}
    assert set(np.flatnonzero(now.q != qp.q)) == {ends["bat.energy_kwh"], ends["hp.tank_kwh"]}


def test_terminal_value_is_of_what_must_be_left_only() -> None:
    """EUR per kWh of power: 0.9 kWh come back from a kWh in the battery, 1/3 kWh fills the tank by one.

    A task that must be done in the end is no store, but has a requirement; a battery that may end empty has none.
    """
    empty = {**DEVICES[2], "name": "other", "end_share": 0.1}
    qp = compiled([*DEVICES, empty], horizon(N), columns(N, load=LOAD, sun=SUN, heat=HEAT_KW))
    now, _ = intraday(qp, 0.02).program(qp, 0, np.zeros(qp.size))
    value = {name: qp_part for name, qp_part in qp.values(qp.q - now.q).items() if qp_part.any()}
    assert list(value) == ["bat.energy_kwh", "hp.tank_kwh"]
    assert value["bat.energy_kwh"] == pytest.approx([0.0] * (N - 1) + [0.9 * 0.02], abs=EXACT)
    assert value["hp.tank_kwh"] == pytest.approx([0.0] * (N - 1) + [0.02 / 3], abs=EXACT)


def test_limits_do_not_hold_in_the_past(cleared) -> None:
    """An hour of great demand empties the tank far below 0 in the past; it must only be above 0 again at the gate."""
    qp, x = cleared
    heat = HEAT_KW + np.array([0.0, 30.0, -12.0, -12.0, 0, 0, 0, 0]).clip(-HEAT_KW)
    now, given_way = intraday(qp).program(program(heat=heat), GATE, x)
    past = tank_kwh(qp.values(x)["hp.power_kw"], heat)[:GATE]
    assert past.min() < -5.0
    assert all((amounts[:GATE] == 0).all() for amounts in given_way.values())
    schedule = solve_program(now, ASKED, 1.0)[1]
    assert schedule["hp.tank_kwh"][:GATE] == pytest.approx(past, abs=SOLVED_KW)


# ---- what gives way


def least_relief_eur(latest: dict[str, np.ndarray], gate: int, was: dict[str, np.ndarray]) -> np.ndarray:
    """EUR of [battery, tank, connection] in the cheapest way out, from a model written by hand in cvxpy."""
    charge, discharge, pump, sun = (cp.Variable(N, nonneg=True) for _ in range(4))
    slack = {name: cp.Variable((2, N - gate), nonneg=True) for name in ("battery", "tank", "connection")}
    most = ((charge, 12.0), (discharge, 12.0), (pump, 5.0), (sun, 30.0 * latest["sun"]))
    rows = [power <= limit for power, limit in most]
    for power, name in ((charge, POWERS[1]), (discharge, POWERS[2]), (pump, POWERS[3]), (sun, POWERS[0])):
        rows += [power[t] == was[name][t] for t in range(gate)]
    battery = [20.0 + cp.sum(0.9 * charge[: t + 1] - discharge[: t + 1] / 0.9) for t in range(N)]
    fading = [0.95 ** np.arange(t, -1, -1) for t in range(N)]
    tank = [0.95 ** (t + 1) * 10 + fading[t] @ (3 * pump - latest["heat"])[: t + 1] for t in range(N)]
    meter = latest["load"] + charge - discharge + pump - sun
    for t in range(gate, N):
        at, last = t - gate, t == N - 1
        for value, low, high, name in (
            (battery[t], 20.0 if last else 4.0, 40.0, "battery"),
            (tank[t], 10.0 if last else 0.0, 20.0, "tank"),
            (meter[t], -LIMIT_KW, LIMIT_KW, "connection"),
        ):
            moved = value + slack[name][0, at] - slack[name][1, at]
            rows += [moved >= low, moved <= high]
    prices = {"battery": 0.8 * 0.9, "tank": 0.8 / 3, "connection": 3.0}
    parts = [prices[name] * cp.sum(each) for name, each in slack.items()]
    problem = cp.Problem(cp.Minimize(sum(parts)), rows)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return np.array([part.value for part in parts])


WORSE = {
    "cold": {"heat": HEAT_KW + 7.0},
    "overloaded": {"load": LOAD + np.array([0, 0, 0, 0, 20.0, 40.0, 30.0, 30.0])},
    "dark, cold and overloaded": {"load": LOAD + 14.0, "sun": 0.3 * SUN, "heat": HEAT_KW + 5.0},
    "hot tank": {"heat": 0.0 * HEAT_KW},
}


@pytest.mark.parametrize("gate", [2, 5, N - 1])
@pytest.mark.parametrize("kind", WORSE)
def test_limits_give_way_by_what_a_model_written_by_hand_says(cleared, kind: str, gate: int) -> None:
    qp, x = cleared
    failed = {"load": LOAD, "sun": SUN, "heat": HEAT_KW} | WORSE[kind]
    made, latest = intraday(qp), program(**failed)
    done = made.realised(latest, x)
    now, given_way = made.program(latest, gate, done)
    expected = least_relief_eur(failed, gate, qp.values(done))
    assert expected.sum() > 0.3
    assert made.relief_eur(given_way).sum() == pytest.approx(expected.sum(), rel=SOLVER, abs=N * ROOM)
    assert made.relief_eur(given_way).shape == (N,) and (made.relief_eur(given_way)[:gate] == 0).all()
    solve_program(now, ASKED, 1.0)  # asserts that there is a schedule


def test_a_failure_with_one_way_out_by_hand(cleared) -> None:
    """In the last hour 10 kWh of heat more than the pump can make: 10 kWh of heat are short, 10/3 kWh of power.

    Before it the tank is as it was scheduled to be, and the pump at full power gives 15 kWh.
    """
    qp, x = cleared
    gate, before = N - 1, qp.values(x)["hp.tank_kwh"][N - 2]
    heat = HEAT_KW.copy()
    heat[-1] = 0.95 * before + 15.0 - 10.0 + 10.0
    made = intraday(qp)
    given_way = made.program(program(heat=heat), gate, x)[1]
    assert list(given_way) == ["hp.tank_kwh"]
    assert given_way["hp.tank_kwh"] == pytest.approx([0.0] * 7 + [10.0], abs=10 * ROOM)
    assert made.relief_eur(given_way) == pytest.approx([0.0] * 7 + [0.8 * 10 / 3], abs=10 * ROOM)


def test_the_connection_gives_way_in_mw(cleared) -> None:
    """80 kW of load; all that the house has is 12 kW from the battery at most, which has to end with 20 kWh."""
    qp, x = cleared
    load = LOAD.copy()
    load[-1] = 80.0
    made = intraday(qp)
    given_way = made.program(program(load=load), N - 1, x)[1]
    was = qp.values(x)
    spare_kw = max(0.0, 0.9 * (was["bat.energy_kwh"][N - 2] - 20.0))
    pump_kw = max(0.0, (10.0 + HEAT_KW[-1] - 0.95 * was["hp.tank_kwh"][N - 2]) / 3)
    beyond = 80.0 - LIMIT_KW - spare_kw + pump_kw
    assert made.relief_eur(given_way)[-1] < 3.0 * beyond + SOLVED_KW, "power of the states is cheaper here"
    assert given_way["connection.p_mw"][-1] == pytest.approx(1e-3 * (80.0 - LIMIT_KW - 12.0), abs=1e-4)


def test_nothing_gives_way_where_a_schedule_is_left(cleared) -> None:
    qp, x = cleared
    made, latest = intraday(qp), program(**FAILED)
    now, given_way = made.program(latest, 0, x)
    assert given_way == {} and (made.relief_eur({}) == 0).all()
    assert (now.l == latest.l).all() and (now.u == latest.u).all()


# ---- through the day


def test_powers_are_cut_to_what_is_there(cleared) -> None:
    qp, x = cleared
    done, was = qp.values(intraday(qp).realised(program(sun=0.5 * SUN), x)), qp.values(x)
    cut = np.minimum(was["roof.production_kw"], 15.0 * SUN)
    assert done["roof.production_kw"] == pytest.approx(cut, abs=EXACT)
    assert (cut < was["roof.production_kw"] - 1.0).any()
    for name in POWERS[1:]:
        assert done[name] == pytest.approx(was[name], abs=SOLVED_KW)


def day_of(cleared) -> CommunityDay:
    agent = QPAgent(cleared[0])
    agent.x = cleared[1].copy()

    def latest(revise, *, stays) -> QuadraticProgram:
        return program(revise("load", LOAD), revise("sun", SUN), revise("heat", HEAT_KW))

    return CommunityDay(agent, latest, COUPLING, 1.0, RELIEF, 0.0)


def test_sun_that_nobody_curtailed_is_taken_as_it_comes(cleared) -> None:
    """More sun than was forecast: PV at its limit follows, PV that was told to make 2 kW less does not."""
    qp, x = cleared
    block = next(block for block in qp.variables if block.name == "roof.production_kw")
    told = x.copy()
    told[block.entries] = 30 * SUN
    told[block.start + 3] -= 2.0
    more = program(sun=1.2 * SUN)
    done = qp.values(intraday(qp).realised(more, told, qp))["roof.production_kw"]
    expected = 36 * SUN
    expected[3] = 30 * SUN[3] - 2.0
    assert done == pytest.approx(expected, abs=SOLVED_KW)


def meter_kw(values: dict[str, np.ndarray], load: np.ndarray) -> np.ndarray:
    power = values["bat.charge_kw"] - values["bat.discharge_kw"] + values["hp.power_kw"]
    return load + power - values["roof.production_kw"]


def drawn(day: CommunityDay, gate: int, revise) -> np.ndarray:
    """MW, (N,): before the change at that gate, and the change."""
    before = day.agent.x[day.agent.qp.boundary[COUPLING, "p_mw"]]
    return before + day.open(gate, gate, revise)


def test_what_was_drawn_is_the_sum_by_hand(cleared) -> None:
    """Loads as they turned out; devices as they were told, but for PV that is not there and a tank to keep warm."""
    day, was = day_of(cleared), cleared[0].values(cleared[1])
    drawn_mw = drawn(day, GATE, lambda name, values: FAILED[name])
    power_kw = np.r_[warm_kw(was["hp.power_kw"], FAILED["heat"])[:GATE], was["hp.power_kw"][GATE:]]
    told = was | {
        "roof.production_kw": np.minimum(was["roof.production_kw"], 30 * FAILED["sun"]),
        "hp.power_kw": power_kw,
    }
    assert (power_kw > was["hp.power_kw"] + 0.1).any()
    assert 1e3 * drawn_mw == pytest.approx(meter_kw(told, FAILED["load"]), abs=SOLVED_KW)


def test_every_hour_keeps_what_it_was_told_at_its_gate(cleared) -> None:
    """Hours 0 and 1 run by the day-ahead schedule, 2 and 3 by the answer at gate 2, whatever is answered later."""
    day, qp = day_of(cleared), cleared[0]
    day.open(2, 2, lambda name, values: values)
    day.agent.x = np.full(qp.size, 3.0)
    day.open(4, 4, lambda name, values: 0.1 * values if name == "sun" else values)
    day.agent.x = np.full(qp.size, 1.0)
    drawn_mw = drawn(day, 5, lambda name, values: 0.1 * values if name == "sun" else values)
    was = qp.values(cleared[1])
    told = {name: np.r_[was[name][:2], 3.0, 3.0, np.full(4, 1.0)] for name in POWERS}
    told["roof.production_kw"][2:] = np.minimum(told["roof.production_kw"], 3.0 * SUN)[2:]
    assert 1e3 * drawn_mw == pytest.approx(meter_kw(told, LOAD), abs=SOLVED_KW)
    frozen = day.agent.qp
    charge = next(block for block in qp.variables if block.name == "bat.charge_kw")
    rows = next(block for block in qp.rows if block.name == "bat: charging power limits")
    assert charge.length == N
    for bound in (frozen.l, frozen.u):
        assert bound[rows.entries][:5] == pytest.approx(told["bat.charge_kw"][:5], abs=EXACT)


def test_an_agent_answers_warm_after_a_gate_at_which_limits_gave_way(cleared) -> None:
    day, size = day_of(cleared), 3 * N
    kind = AgentBoundary(
        tuple((COUPLING, quantity, N) for quantity in QUANTITIES), np.full(size, 0.02), np.full(size, 50.0),
        -np.ones(size),
    )  # fmt: skip
    question = Question(1, np.zeros(size), np.zeros(size), np.full(size, 2e3), accuracy=1e-3)
    for gate in (0, 3):
        day.open(gate, gate, lambda name, values: values + 9.0 if name == "heat" else values)
        day.agent.prepare(kind)
        assert day.agent.answer(question).status is AnswerStatus.SOLVED
        assert "hp.tank_kwh" in day.given_way


# ---- hubs

HUB_N = 6
WARMTH = 0.6 + 0.3 * np.cos(np.arange(HUB_N) / 2)
HUB_PRICES = Prices(np.full(HUB_N, 50.0), np.zeros(HUB_N), np.zeros(HUB_N))


def hub(devices: list[dict], warmth: np.ndarray = WARMTH) -> QuadraticProgram:
    return compiled_hub(devices, HUB_N, columns(HUB_N, heat=warmth), gas_connection_kw=2000.0)


def hub_schedule(qp: QuadraticProgram) -> np.ndarray:
    values = solve_hub(qp, HUB_PRICES, 40.0, 1.0)[1]
    return np.concatenate([values[block.name] for block in qp.variables])


def test_the_tank_of_a_hub_takes_up_what_heat_was_not_foreseen() -> None:
    """5 % more of up to 135 kW of heat: the tank gives it, up to its 110 kW; the boiler what is left."""
    qp = hub([BOILER, TANK, HEAT])
    x, made, latest = hub_schedule(qp), intraday(qp), hub([BOILER, TANK, HEAT], 1.05 * WARMTH)
    was, done = qp.values(x), qp.values(made.realised(latest, x))
    charge_kw = np.maximum(was["tank.charge_kw"] - 0.05 * 150 * WARMTH, -110.0)
    assert done["tank.charge_kw"] == pytest.approx(charge_kw, abs=SOLVED_KW)
    assert done["boiler.heat_kw"] == pytest.approx(1.05 * 150 * WARMTH + charge_kw, abs=SOLVED_KW)
    assert np.isclose(done["boiler.heat_kw"], was["boiler.heat_kw"], atol=SOLVED_KW).sum() >= HUB_N - 2
    now, given_way = made.program(latest, 3, made.realised(latest, x))
    schedule = solve_hub(now, HUB_PRICES, 40.0, 1.0)[1]
    assert given_way == {}
    assert schedule["tank.charge_kw"][:3] == pytest.approx(done["tank.charge_kw"][:3], abs=SOLVED_KW)
    gas_kw = 1e3 * now.values(np.concatenate([schedule[b.name] for b in now.variables]))["connection.gas_mw"]
    assert gas_kw == pytest.approx(schedule["boiler.heat_kw"] / 0.9, abs=SOLVED_KW)


def test_where_a_hub_has_no_tank_its_boiler_follows() -> None:
    qp = hub([BOILER, HEAT])
    latest = hub([BOILER, HEAT], 1.05 * WARMTH)
    done = intraday(qp).realised(latest, hub_schedule(qp))
    assert qp.values(done)["boiler.heat_kw"] == pytest.approx(1.05 * 150 * WARMTH, abs=SOLVED_KW)
    assert intraday(qp).program(latest, 3, done)[1] == {}


def test_the_tank_of_a_hub_gives_way_though_flexibility_guards_it_from_both_sides() -> None:
    """A heat pump offers flexibility behind which the tank stands; twice the heat empties it below 0 by gate 3."""
    pump = {"kind": "hub_heat_pump", "name": "hp", "max_kw": 40, "outdoor_temperature_degc": 7}
    devices = [{**BOILER, "max_heat_kw": 60}, pump, {**TANK, "discharge_kw": 300}, HEAT]
    qp = hub(devices)
    made, latest = intraday(qp), hub(devices, 2.0 * WARMTH)
    assert GAS_COUPLING in {coupling for coupling, _ in qp.boundary}
    now, given_way = made.program(latest, 3, made.realised(latest, hub_schedule(qp)))
    schedule = solve_hub(now, HUB_PRICES, 40.0, 1.0)[1]
    assert list(given_way) == ["tank.energy_kwh"] and given_way["tank.energy_kwh"][3:].max() > 10.0
    lowest = np.minimum(0.0, np.array([np.inf] * 3 + [0.0] * 3))
    short = lowest[3:5] - schedule["tank.energy_kwh"][3:5]
    assert (short <= given_way["tank.energy_kwh"][3:5] + SOLVED_KW).all()


def test_heat_that_nothing_can_make_is_refused_by_name() -> None:
    """A boiler of 300 kW and no tank: 375 kW of heat cannot be, whatever gives way."""
    qp = hub([BOILER, HEAT])
    x, impossible = hub_schedule(qp), hub([BOILER, HEAT], 2.5 + 0.0 * WARMTH)
    for ask in (lambda: intraday(qp).program(impossible, 0, x), lambda: intraday(qp).realised(impossible, x)):
        with pytest.raises(InfeasibleError, match="^hub: "):
            ask()


def test_a_community_without_a_schedule_is_named(cleared) -> None:
    """Rows that contradict each other and are no limits of a state or of the connection."""
    qp, x = cleared
    block = next(block for block in qp.rows if block.name == "hp: heat balance of the tank balance")
    row = next(rows for rows in qp.rows if rows.name == "roof: available power limits")
    broken = replace(qp, l=qp.l.copy(), u=qp.u.copy())
    broken.l[row.start] = broken.u[row.start] = 40.0
    lines = next(rows for rows in qp.rows if rows.name.endswith("power behind up flexibility"))
    broken.u[lines.entries] = -1e3
    assert block.length == N
    with pytest.raises(InfeasibleError, match="^ec: no schedule is left for the rest of the day"):
        intraday(qp).program(broken, 0, x)
