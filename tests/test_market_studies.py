"""What the studies on the market count, against the ledger's own rows, the files of the case, and sums by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from admm import InProcessTransport, Settings
from benchmarks import market_gates
from benchmarks.market_day import CAPACITY, DayRow, HeldReserve, RunDay, measured, paid_eur, run_day
from benchmarks.market_gates import cold_run, summed
from benchmarks.market_studies import Task, days, open_tasks, work
from benchmarks.market_tables import complete, saving, studies_text
from benchmarks.options import Options
from benchmarks.tables import read_csv
from networks.case import load_case
from networks.case_file import BUNDLED
from networks.market.day import MarketDay
from networks.market.settlement import PRODUCTS, settle
from networks.market.uncertainty import Uncertainty
from subproblems import QuadraticProgram
from subproblems.quadratic_program import Block
from tests.case_tools import BUNDLED_CASE
from tests.tolerances import EXACT, OF_TURNOVER

CENT = 0.01
QUARTERS = ("00", "15", "30", "45")
FEW = Settings(max_iterations=3)
"""What is counted holds for any gates, agreed on or not."""


@pytest.fixture(scope="module")
def run() -> RunDay:
    case = load_case(BUNDLED_CASE)
    table = case.table.market.model_copy(update={"gate_minutes": 720})
    return run_day(case, Uncertainty(table).knowledge(case, 0), table, FEW, Settings(), "osqp")


@pytest.fixture(scope="module")
def row(run: RunDay) -> DayRow:
    return measured(DayRow("all", 0), run)


def test_what_all_agents_pay_is_what_everything_costs(run: RunDay, row: DayRow) -> None:
    net = settle(run.outcome.record, run.outcome.spread_eur_per_mwh).net_eur()
    assert row.dso_net_eur + row.community_eur + net["tso"] == pytest.approx(row.whole_eur, abs=len(PRODUCTS) * CENT)
    assert row.gates_not_converged == 3 and row.day_ahead_converged and row.median_gate_iterations == 3


def test_payments_at_the_substation_are_those_of_the_ledger(run: RunDay, row: DayRow) -> None:
    settlement = settle(run.outcome.record, run.outcome.spread_eur_per_mwh)
    rows = settlement.rows
    signed = np.where(rows["payer"] == "dso", 1, -1) * rows["amount_eur"] * (rows["coupling"] == "dso-tso")
    assert row.dso_upstream_eur == pytest.approx(signed.sum(), abs=EXACT * abs(signed).sum())
    capacity = np.array(["capacity" in product for product in rows["product"]])
    income = row.dso_flexibility_income_eur
    assert income == pytest.approx(-signed[capacity].sum(), abs=EXACT * abs(signed).sum())
    assert row.tso_reserve_eur == pytest.approx(row.generators_reserve_eur + income) and income > 0
    assert paid_eur(settlement, "dso-tso", CAPACITY) == -income


def test_reserve_is_what_was_last_planned_before_each_period() -> None:
    blocks = (Block("g.p_mw", 0, 3, "MW"), Block("g.reserve_up_mw", 3, 3, "MW"))
    P, q = sp.diags_array([0.0] * 3 + [2.0] * 3, format="csc"), np.array([10.0] * 3 + [5.0] * 3)
    qp = QuadraticProgram(
        P, q, sp.eye_array(6, format="csc"), np.zeros(6), np.ones(6), {("c", "p_mw"): np.arange(3)},
        constant=7.0, variable_scale=np.ones(6), row_scale=np.ones(6), variables=blocks,
    )  # fmt: skip
    held = HeldReserve(qp)
    held.plan(0, {"g.reserve_up_mw": np.array([1.0, 1.0, 1.0])})
    held.plan(1, {"g.reserve_up_mw": np.array([9.0, 2.0, 3.0])})
    held.plan(3, {"g.reserve_up_mw": np.array([9.0, 9.0, 9.0])})
    assert held.cost_eur() == pytest.approx(5 * (1 + 2 + 3) + (1 + 4 + 9), abs=EXACT)


def test_curtailment_is_what_the_sun_gave_less_what_was_taken(run: RunDay, row: DayRow) -> None:
    case, unused_kwh = run.day.case, 0.0
    for name, agent in case.communities.items():
        with (BUNDLED / BUNDLED_CASE / agent.file).with_suffix(".csv").open(encoding="utf-8") as file:
            read = {one["time_utc"]: float(one["pv_pu_own"]) for one in csv.DictReader(file) if "pv_pu_own" in one}
        for device in (one for one in case.devices(name) if one.kind == "pv"):
            hours = [f"{stamp:%Y-%m-%dT%H}" for stamp in case.horizon.stamps()]
            mean = np.array([np.mean([read[f"{hour}:{minute}Z"] for minute in QUARTERS]) for hour in hours])
            sun = run.knowledge.series.actual(f"{name}/pv_pu_own", mean)
            taken = run.day.intraday.communities[name].happened()[0][f"{device.name}.production_kw"]
            unused_kwh += float(np.sum(device.installed_kw * sun - taken))
    assert row.pv_curtailed_mwh == pytest.approx(unused_kwh / 1000, abs=EXACT)


def test_a_cold_run_solves_the_problem_of_the_gate() -> None:
    case = load_case(BUNDLED_CASE)
    knowledge = Uncertainty(case.table.market).knowledge(case, 0)
    day = MarketDay(case, list(case.agents), knowledge, InProcessTransport(), case.table.market)
    day.day_ahead(Settings())
    warm = next(day.gates(Settings())).result
    cold = cold_run(case, day, Settings(), "osqp")
    assert warm.converged and cold.converged and cold.iterations > warm.iterations
    assert cold.objective == pytest.approx(warm.objective, abs=2 * OF_TURNOVER * warm.turnover)


def test_all_studies_of_a_draw_come_before_the_next_and_none_twice(tmp_path: Path) -> None:
    options = Options(subjects=("none", "all"), own={"draws": 2})
    done = {False: [{"study": "all", "draw": 0}], True: []}
    tasks = [(task.week, task.draw, task.study) for task in open_tasks(tmp_path, done, options)]
    assert tasks == [
        (False, 0, "none"), (True, 0, "none"), (True, 0, "all"), (False, 1, "none"), (False, 1, "all")
    ]  # fmt: skip
    assert len(open_tasks(tmp_path / "again", done, replace(options, again=True))) == len(tasks) + 1


def test_a_day_of_gates_that_is_run_again_takes_the_place_of_its_former_self(tmp_path: Path, monkeypatch) -> None:
    runs = iter(range(1, 9))

    def rows(name: str, forecasts: str, solver: str) -> list[market_gates.GateRow]:
        return [market_gates.GateRow(name, forecasts, 0, False, True, next(runs), 1.0, 1.0, True, 8, 2.0)]

    monkeypatch.setattr(market_gates, "gate_rows", rows)
    market_gates.run_market_gates(Options(out=tmp_path))
    market_gates.run_market_gates(Options(out=tmp_path, subjects=(BUNDLED_CASE,), again=True))
    kept = market_gates.run_market_gates(Options(out=tmp_path, resume=True))
    assert [row["iterations"] for row in kept] == [5, 6, 3, 4] and kept == read_csv(tmp_path / "market_gates.csv")


def test_a_week_has_seven_days_and_a_failure_is_a_row(monkeypatch) -> None:
    from benchmarks import market_studies

    task = Task("all", BUNDLED_CASE, 0, True, "osqp")
    assert [f"{case.horizon.start:%d}" for case in days(task)] == [f"{day:02}" for day in range(10, 17)]

    def fails(*_, **__):
        raise market_studies.TielineError("no way")

    monkeypatch.setattr(market_studies, "run_day", fails)
    (row,) = work(task)
    assert row.status == "TielineError: no way" and row.whole_eur is None


def rows_of(draws: dict[int, tuple[float, float]]) -> list[dict]:
    """Of `none` and `all`: what is paid upstream in each draw; all other costs alike."""
    every = []
    for draw, paid in draws.items():
        for study, eur in zip(("none", "all"), paid, strict=True):
            row = DayRow(study, draw)
            for key in vars(row):
                if getattr(row, key) is None:
                    setattr(row, key, 1.0)
            row.dso_upstream_eur, row.relief_eur = eur, 0.0
            every.append(vars(row))
    return every


def test_savings_are_of_pairs_and_of_draws_that_all_got_through() -> None:
    rows = rows_of({0: (100.0, 90.0), 1: (200.0, 160.0), 2: (50.0, 1.0)})
    rows[-1]["status"] = "InfeasibleError: no"
    kept, words = complete(rows)
    eur, share = saving(kept, "all", "dso_upstream_eur")
    assert words.startswith("2 draws") and list(eur) == [10, 40] and share == pytest.approx([0.1, 0.2])
    text = studies_text(rows, [])
    assert "| 25 (11.5, 38.5) |" in text and "| 15.00% (10.50%, 19.50%) |" in text and "13.13%" in text
    assert "all, draw 2, day 0: InfeasibleError: no" in text


def test_gates_are_summed_with_the_closing_in_the_time_only() -> None:
    keys = ("iterations", "seconds", "closing", "cold_iterations", "cold_seconds", "converged")
    values = ((10, 1.0, False, 40, 4.0, True), (30, 3.0, False, None, None, False), (5, 0.5, True, None, None, True))
    same = {"case": "c", "forecasts": "perfect", "solver": "osqp", "versions": "v", "machine": "m"}
    (line,) = summed([same | dict(zip(keys, one, strict=True)) for one in values])
    assert (line["gates"], line["not_converged"], line["total_seconds"], line["iterations"]) == (2, 1, 4.5, 20)
    assert (line["cold_runs"], line["cold_iterations"], line["of_cold"]) == (1, 40, 0.25)
