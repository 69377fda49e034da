"""Agents whose limits cannot hold together: proved while a run goes on, by name, and never where an agreement is."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from admm import conflict
from subproblems import Builder, QPAgent, QuadraticProgram
from tests.case_tools import tieline
from tests.small_problems import Parabola, coupling, star, triangle

PERIODS, KEY = 24, ("plant-grid", "p_mw")
PRICE = 40 + 20 * np.sin(np.arange(PERIODS) / 4)
SCHEMES = ["two-block", "certified", "memory"]
SMALL = Path(__file__).parent / "data" / "failing" / "ext_grid_vm_ignored"


def plant_and_grid(need_mwh: float, most_mw: float, shares_cost: bool = True) -> dict[str, admm.Agent]:
    """A plant that needs so much in a day, at most 1 MW, and a grid that gives at most so much in a period."""
    plant = Builder("plant")
    taken = plant.variable("power", PERIODS, lower=0.0, upper=1.0, unit="MW")
    plant.cost(taken, quadratic=1e-3)
    for_all = sp.csc_matrix(np.ones((1, PERIODS)))
    program = replace_rows(plant, taken, for_all, need_mwh)
    eye = sp.identity(PERIODS, format="csc")
    ends = np.zeros(PERIODS), np.full(PERIODS, most_mw)
    grid = QuadraticProgram(8.0 * eye, PRICE, eye, *ends, {KEY: np.arange(PERIODS)}, name="grid")
    return {"plant": QPAgent(program, shares_cost=shares_cost), "grid": QPAgent(grid, shares_cost=shares_cost)}


def replace_rows(builder: Builder, taken, row: sp.csc_matrix, need_mwh: float) -> QuadraticProgram:
    """The builder's program with one more row, `daily need`."""
    builder.boundary("plant-grid", "p_mw", taken)
    made = builder.build()
    from subproblems.quadratic_program import Block

    return replace(
        made,
        A=sp.vstack([made.A, row], format="csc"),
        l=np.append(made.l, need_mwh),
        u=np.append(made.u, need_mwh),
        rows=(*made.rows, Block("daily need", made.l.size, 1)),
        row_scale=None if made.row_scale is None else np.append(made.row_scale, 1.0),
    )


def plant_and_grid_couplings() -> list[admm.Coupling]:
    return [admm.Coupling("plant-grid", "plant", "grid", [admm.Quantity("p_mw", PERIODS, scale=1.0, price_scale=50.0)])]


def solve(agents: dict[str, admm.Agent], **settings: object) -> admm.Result:
    return admm.solve(agents, plant_and_grid_couplings(), admm.Settings(**settings))


@pytest.mark.parametrize(
    ("most_mw", "scheme"), [(0.3, "two-block"), (0.3, "certified"), (0.3, "memory"), (0.45, "two-block")]
)
def test_a_need_above_what_can_be_given_is_proved_early_and_named(most_mw: float, scheme: str) -> None:
    """12 MWh in 24 periods of at most 0.3 or 0.45 MW: 7.2 and 10.8 MWh."""
    seen: list[int] = []
    with pytest.raises(admm.InfeasibleError) as raised:
        solve(plant_and_grid(12.0, most_mw), scheme=scheme, callback=lambda progress: seen.append(progress.iteration))
    words = str(raised.value)
    assert raised.value.exit_code == 4 and max(seen) <= 40
    assert "the limits of 'plant', 'grid' do not hold together" in words
    assert "'plant-grid', p_mw (all periods)" in words and "daily need" in words


def test_who_is_small_and_needed_for_the_conflict_is_named() -> None:
    """The grid has 10 MW. The mill takes 9.8 of them and the shop 0.4: without either there is an agreement."""
    eye = sp.identity(2, format="csc")
    rows = sp.vstack([eye, np.ones((1, 2))], format="csc")
    both = {("mill-grid", "p_mw"): np.array([0]), ("shop-grid", "p_mw"): np.array([1])}
    grid = QuadraticProgram(eye, np.ones(2), rows, np.zeros(3), np.array([10.0, 10.0, 10.0]), both, name="grid")
    agents: dict[str, admm.Agent] = {"grid": QPAgent(grid)}
    for name, need in (("mill", 9.8), ("shop", 0.4)):
        one, at = sp.identity(1, format="csc"), {(f"{name}-grid", "p_mw"): np.array([0])}
        agents[name] = QPAgent(QuadraticProgram(one, np.zeros(1), one, [need], [2 * need], at, name=name))
    couplings = [coupling(f"{name}-grid", name, "grid", scale=scale) for name, scale in (("mill", 10.0), ("shop", 0.4))]
    with pytest.raises(admm.InfeasibleError, match=r"the limits of '\w+', '\w+', '\w+' do not hold together"):
        admm.solve(agents, couplings)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_can_be_given_is_never_called_infeasible(scheme: str) -> None:
    assert solve(plant_and_grid(12.0, 2.0), scheme=scheme, max_iterations=60).converged


@pytest.mark.parametrize(
    ("penalty", "acceleration"),
    [("classical", "none"), ("classical:30", "anderson"), ("spectral", "none"), ("classical", "relaxation:1.6")],
)
def test_the_proof_depends_on_no_penalty_and_no_acceleration(penalty: str, acceleration: str) -> None:
    with pytest.raises(admm.InfeasibleError, match="do not hold together"):
        solve(plant_and_grid(12.0, 0.3), penalty=penalty, acceleration=acceleration, max_iterations=150)


def chain(first_mw: float, second_mw: float, most_mw: float) -> tuple[dict[str, admm.Agent], list[admm.Coupling]]:
    """Two fixed loads behind one feeder, which together take more than it carries; a third one is no part of it."""
    agents: dict[str, admm.Agent] = {}
    feeder = Builder("feeder")
    parts = []
    for name, load_mw in (("a", first_mw), ("b", second_mw), ("c", None)):
        builder = Builder(name)
        low, high = (load_mw, load_mw) if load_mw is not None else (-1.0, 1.0)
        taken = builder.variable("load", 2, lower=low, upper=high, unit="MW")
        builder.cost(taken, linear=-1.0, quadratic=0.1)
        builder.boundary(f"{name}-feeder", "p_mw", taken)
        agents[name] = QPAgent(builder.build())
        given = feeder.variable(f"{name}.p_mw", 2, unit="MW")
        feeder.cost(given, linear=30.0)
        feeder.boundary(f"{name}-feeder", "p_mw", given)
        parts.append((given, 1.0))
    feeder.rows("line rating", parts[:2], -most_mw, most_mw)
    feeder.rows("own cable of c", parts[2:], -5.0, 5.0)
    agents["feeder"] = QPAgent(feeder.build())
    return agents, [coupling(f"{name}-feeder", name, "feeder", periods=2, price_scale=40.0) for name in "abc"]


def test_who_is_no_part_of_it_is_not_named() -> None:
    agents, couplings = chain(0.7, 0.8, 1.2)
    with pytest.raises(admm.InfeasibleError) as raised:
        admm.solve(agents, couplings)
    words = str(raised.value)
    assert "'a-feeder'" in words and "'b-feeder'" in words and "line rating" in words
    assert "'c'" not in words and "c-feeder" not in words and "own cable" not in words


def test_loads_that_fit_are_coordinated() -> None:
    agents, couplings = chain(0.7, 0.4, 1.2)
    assert admm.solve(agents, couplings).converged


def test_around_a_relay() -> None:
    """Three fixed loads in a triangle, each pair at another value: the relayed coupling is named as it was given."""
    problem = triangle()
    fixed = {"a": [1.0, 4.0], "b": [2.0, -3.0], "c": [7.0, 0.0]}
    agents = {}
    for name, values in fixed.items():
        keys = {"a": ("ab", "ca"), "b": ("ab", "bc"), "c": ("bc", "ca")}[name]
        at = {(key, "p_mw"): [i] for i, key in enumerate(keys)}
        eye = sp.identity(2, format="csc")
        agents[name] = QPAgent(QuadraticProgram(eye, np.zeros(2), eye, values, values, at, name=name))
    with pytest.raises(admm.InfeasibleError, match="do not hold together.* at '(ab|bc|ca)', p_mw"):
        admm.solve(agents, problem.couplings)


def test_without_costs_nothing_is_proved_and_nobody_is_asked() -> None:
    agents = plant_and_grid(12.0, 0.3, shares_cost=False)
    result = solve(agents, max_iterations=60)
    assert result.status is admm.Status.MAX_ITERATIONS and "may not hold together" in result.status.value
    assert {one.solves for one in result.history} == {2}


def test_an_agent_that_knows_no_such_question_is_not_asked_it() -> None:
    class Strict(Parabola):
        def answer(self, question: admm.Question) -> admm.Answer:
            assert question.own_cost and question.penalty.all()
            answer = super().answer(question)
            return replace(answer, values=np.clip(answer.values, -1.0, 0.3))

    agents = {"low": Strict(2.0, [3.0]), "up": QPAgent(fixed(1.0))}
    result = admm.solve(agents, [coupling("low-up", "low", "up")], admm.Settings(max_iterations=60))
    assert result.status is admm.Status.MAX_ITERATIONS


def fixed(value: float) -> QuadraticProgram:
    one = sp.identity(1, format="csc")
    return QuadraticProgram(one, [0.0], one, [value], [value], {("low-up", "p_mw"): [0]}, name="up")


@pytest.mark.parametrize("apart", [0.0, 5e-4, 2e-3, 0.1])
def test_a_distance_within_the_tolerance_is_an_agreement(apart: float) -> None:
    """Values 1 and 1 + apart: below 1e-3 of the scale that passes, above it is proved, and never neither way round."""
    low = QPAgent(replace(fixed(1.0 + apart), name="low"))
    agents = {"low": low, "up": QPAgent(fixed(1.0))}
    settings = admm.Settings(max_iterations=80, relative_tolerance=1e-3)
    try:
        result = admm.solve(agents, [coupling("low-up", "low", "up")], settings)
    except admm.InfeasibleError:
        assert apart > settings.consensus_tolerance
    else:
        assert apart <= 2e-3 and result.residuals.mismatch == pytest.approx(apart, abs=1e-5)


def test_bounds_without_cost_are_bounds() -> None:
    """Of 1,000 feasible points of random programs none is below what the agent proves of its limits alone."""
    draw = np.random.default_rng(5)
    for _ in range(20):
        A, inside = draw.normal(size=(4, 3)), draw.normal(size=3)
        room = draw.uniform(0.1, 2.0, 4)
        rows = sp.csc_matrix(np.vstack([A, np.eye(3)]))
        middle = rows @ inside
        room = np.r_[room, np.full(3, 3.0)]
        key = ("low-up", "p_mw")
        program = QuadraticProgram(
            np.eye(3), 100 * draw.normal(size=3), rows, middle - room, middle + room, {key: [0, 1]}, constant=7.0
        )
        agent = QPAgent(program)
        quantity = admm.Quantity("p_mw", 2)
        layout = admm.couplings.Layout([admm.Coupling("low-up", "low", "up", [quantity])])
        agent.prepare(layout.boundary("low"))
        price, nothing = draw.normal(size=2), np.zeros(2)
        answer = agent.answer(admm.Question(1, price, nothing, nothing, accuracy=1e-8, own_cost=False))
        assert answer.proves and answer.cost_eur == 0.0
        points = inside + draw.uniform(-3, 3, size=(1000, 3))
        feasible = points[(np.abs(points @ rows.T.toarray() - middle) <= room).all(axis=1)]
        assert (feasible[:, :2] @ price >= answer.bound_eur).all()
        assert answer.bound_eur == pytest.approx(price @ answer.values, abs=1e-5)


def test_a_mismatch_that_falls_or_turns_does_not_last() -> None:
    size = conflict.WINDOW
    lasting = [np.array([0.1, -0.1])] * size
    assert conflict.lasts(lasting, 1e-3)
    assert not conflict.lasts(lasting[1:], 1e-3)
    assert not conflict.lasts([0.8**i * one for i, one in enumerate(lasting)], 1e-3)
    assert not conflict.lasts([(-1.0) ** i * one for i, one in enumerate(lasting)], 1e-3)
    assert not conflict.lasts([1e-2 * one for one in lasting], 1e-3)


def test_a_run_that_converges_asks_nothing_more() -> None:
    problem = star()
    result = problem.solve()
    assert result.converged and {one.solves for one in result.history} == {4}


def small_feeder(to: Path, loads_kw: tuple[float, ...], *lines: str) -> Path:
    """Fixed loads at the end of a 20-kV line that carries 13.9 MVA, 5 MW of them the feeder's own."""
    folder = Path(shutil.copytree(SMALL, to / "case"))
    head, agent = (folder / "case.toml").read_text().split("[[agent]]")
    device = (folder / "agents" / "a1.toml").read_text()
    text = head.replace("load_profile = 1", "\n".join([*lines, "load_profile = 1"]))
    for i, load_kw in enumerate(loads_kw, start=1):
        size = f"= {1.2 * load_kw}"
        text += "[[agent]]" + agent.replace('"a1"', f'"a{i}"').replace("a1.toml", f"a{i}.toml").replace("= 50.0", size)
        own = re.sub(r"power_kw = \S+", f"power_kw = {load_kw}", device.replace("= 50.0", size))
        (folder / "agents" / f"a{i}.toml").write_text(own)
    (folder / "case.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("loads_kw", "lines", "limit"),
    [
        ((5000.0, 5000.0), (), "current limit of line 0"),
        ((2000.0, 2000.0), ("substation_limit_mva = 8.0",), "substation limit"),
    ],
)
def test_communities_that_a_feeder_cannot_carry_together(loads_kw, lines, limit, tmp_path, capsys) -> None:
    case = small_feeder(tmp_path, loads_kw, *lines)
    ended = tieline(capsys, "run", case, "--qp-solver", "piqp", "--out", tmp_path / "out")
    assert ended.code == 4 and ended.errors.count("\n") == 1
    for words in ("'a1'", "'a2'", "'dso'", "do not hold together", "'a1-dso', p_mw", limit):
        assert words in ended.errors
    assert not (tmp_path / "out" / "summary.json").exists()


def test_on_ranks_it_is_proved_once_and_in_the_same_words(mpirun, tmp_path) -> None:
    case = small_feeder(tmp_path, (5000.0, 5000.0))
    done = mpirun(3, "-m", "admm", "run", str(case), "--qp-solver", "piqp", "--out", str(tmp_path / "out"))
    told = [line for line in done.stderr.splitlines() if "do not hold together" in line]
    assert done.returncode == 4 and len(told) == 1 and "Traceback" not in done.stderr
    assert all(words in told[0] for words in ("'a1'", "'a2'", "'dso'", "current limit of line 0"))
    assert not (tmp_path / "out" / "summary.json").exists()


def test_generation_below_what_two_feeders_need_is_proved() -> None:
    """Two feeders hand fixed loads on, 5 % of them lost; generators above give less, or just enough."""

    def feeder(name: str, load_mw: float) -> QPAgent:
        builder = Builder(name)
        drawn = builder.variable("drawn.p_mw", 1, lower=0.0, upper=9.0, unit="MW")
        builder.rows("load and losses", [(drawn, 0.95)], load_mw, load_mw)
        builder.boundary(f"{name}-tso", "p_mw", drawn)
        return QPAgent(builder.build())

    def tso(most_mw: float) -> QPAgent:
        builder = Builder("tso")
        made = builder.variable("generation.p_mw", 1, lower=0.0, upper=most_mw, unit="MW")
        taken = [builder.variable(f"{name}.p_mw", 1, unit="MW") for name in "ab"]
        builder.rows("balance", [(made, 1.0), *((block, -1.0) for block in taken)], 0.0, 0.0)
        builder.cost(made, linear=30.0, quadratic=1.0)
        for name, block in zip("ab", taken, strict=True):
            builder.boundary(f"{name}-tso", "p_mw", block)
        return QPAgent(builder.build())

    def ended(most_mw: float) -> admm.Result:
        agents = {"a": feeder("a", 1.9), "b": feeder("b", 2.85), "tso": tso(most_mw)}
        couplings = [coupling(f"{name}-tso", name, "tso", scale=3.0, price_scale=50.0) for name in "ab"]
        return admm.solve(agents, couplings, admm.Settings())

    with pytest.raises(admm.InfeasibleError, match="'a', 'tso', 'b'|'b', 'tso', 'a'") as refused:
        ended(4.5)
    assert "generation" in str(refused.value)
    assert ended(5.05).converged
