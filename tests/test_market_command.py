"""`tieline market` in this process: what it writes, its exit codes, and what it refuses in one line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import h5py
import pytest

import admm
from networks.case_file import CASE_FILE
from subproblems import QPAgent
from tests.case_tools import Ended, Mutation, edit, tieline
from tests.market_tools import CARS, HOMES, PERIODS, add_rule, small_case, two_days, write_scenario
from tests.test_mpi_case import datasets

BAD_INPUT, NOT_CONVERGED, INTERRUPTED = 2, 3, 130
COORDINATION = ["boundary.h5", "history.h5", "private", "summary.json"]
STAGES = {
    "day-ahead": COORDINATION,
    "intra-day": ["boundary.h5", "private", "summary.json"],
    "settlement": [
        "activation.csv", "agents.csv", "gates.csv", "market.h5", "positions.csv", "settlement.csv", "summary.json",
    ],
}  # fmt: skip
AGENTS = {HOMES, CARS, "dso", "tso"}
WHOLE_KEYS = {
    "case", "days", "draw", "converged", "interrupted", "day_ahead_cost_eur", "cost_eur", "balancing_eur", "relief_eur",
    "gates", "gates_not_converged", "bytes_exchanged", "versions", "run_id", "complete",
}  # fmt: skip
INTRADAY_KEYS = {
    "case", "start_utc", "periods", "step_minutes", "gates", "gates_not_converged", "converged", "day_ahead_iterations",
    "median_gate_iterations", "gate_seconds", "versions", "stage", "run_id", "complete",
    "ac_passed", "gas_passed", "failed_checks", "realised_overloads", "realised_overload_words",
    "gas_max_pressure_error_bar", "replaced_solvers",
    *(f"ac_max_{key}" for key in (
        "voltage_error_pu", "loss_error", "voltage_violation_pu", "current_violation_share",
        "substation_violation_share",
    )),
    *(f"user_net_max_{key}" for key in ("voltage_error_pu", "loss_error", "loading_error", "voltage_violation_pu")),
}  # fmt: skip
STATE = ["checkpoint-previous.h5", "checkpoint.h5", "private"]
SETTLEMENT_KEYS = INTRADAY_KEYS | {
    "day_ahead_cost_eur", "cost_eur", "balancing_eur", "balancing_mwh", "relief_eur", "reserve_short_mwh",
    "settlement_sum_cents", "day_ahead_worse_off_agents", "day_ahead_worse_off",
    "settled_worse_off_agents", "settled_worse_off", "settled_better_off_eur", "settled_not_compared",
    "contracted_up_mwh", "contracted_down_mwh",
    "inside_up_mwh", "inside_down_mwh", "beyond_up_mwh", "beyond_down_mwh", "short_mwh", "long_mwh",
    *(f"{Path(name).stem}_csv_sha256" for name in STAGES["settlement"] if name.endswith(".csv")),
}  # fmt: skip
ACTIVATION_KEYS = {
    f"ac_activation_max_{kind}"
    for kind in (
        "voltage_violation_pu", "current_violation_share", "substation_violation_share", "connection_violation_share",
        "not_passed_on_mw",
    )
}  # fmt: skip


def content(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what it writes


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[int, Path]:
    """The exit code and the output folder of the small case."""
    from admm.cli import main

    to = tmp_path_factory.mktemp("done")
    return main(["market", str(small_case(to)), "--out", str(to / "out")]), to / "out"


def test_three_stages_are_written_and_the_command_ends_well(done) -> None:
    code, out = done
    assert code == 0 and content(out) == sorted([*STAGES, *STATE, "summary.json"])
    for stage, files in STAGES.items():
        assert content(out / stage) == files
        assert summary(out / stage)["stage"] == stage and summary(out / stage)["complete"] is True
        if "private" in files:
            assert {Path(name).stem for name in content(out / stage / "private")} == AGENTS


def test_summaries_say_what_readers_rely_on(done) -> None:
    _, out = done
    whole, day_ahead = summary(out), summary(out / "day-ahead")
    assert whole.keys() == WHOLE_KEYS and day_ahead.keys() >= ACTIVATION_KEYS
    assert summary(out / "intra-day").keys() == INTRADAY_KEYS | {"boundary_sha256"}
    told = summary(out / "settlement")
    assert told.keys() == SETTLEMENT_KEYS
    assert (whole["days"], whole["draw"], whole["converged"], whole["gates"]) == (1, 0, True, PERIODS)
    assert told["settlement_sum_cents"] == 0 and told["gates_not_converged"] == 0
    assert told["day_ahead_cost_eur"] == pytest.approx(day_ahead["objective_eur"])
    assert whole["cost_eur"] == told["cost_eur"]
    assert all(day_ahead[key] is None or day_ahead[key] <= 1e-3 for key in ACTIVATION_KEYS)


def test_the_summary_says_which_csv_files_are_of_its_run(done) -> None:
    _, out = done
    told = summary(out / "settlement")
    files = sorted((out / "settlement").glob("*.csv"))
    assert {f"{path.stem}_csv_sha256": sha256(path.read_bytes()).hexdigest() for path in files} == {
        key: value for key, value in told.items() if key.endswith("_csv_sha256")
    }
    assert told["run_id"] == summary(out)["run_id"] and len(files) == 5


def test_a_table_that_somebody_has_changed_is_not_replaced(done, tmp_path: Path, capsys) -> None:
    """Nothing is computed first."""
    out = tmp_path / "out"
    shutil.copytree(done[1], out)
    mine = out / "settlement" / "agents.csv"
    mine.write_text(mine.read_text() + "my,notes\n")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    ended = tieline(capsys, "market", small_case(tmp_path), "--out", out)
    check_refused(ended, (f"{mine} is not a file that Tieline has written, or is damaged", "move it"))
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_tables_tell_what_the_summary_tells(done) -> None:
    """Amounts of all agents, own costs among them, add up to the whole cost; one gate a row."""
    _, out = done
    settlement, told = out / "settlement", summary(out / "settlement")
    agents = table(settlement / "agents.csv")
    assert {row["agent"] for row in agents} == AGENTS | {"outside"}
    net = -sum(float(row["amount_eur"]) for row in agents if row["agent"] != "outside")
    assert net == pytest.approx(told["cost_eur"], abs=0.01)
    gates = table(settlement / "gates.csv")
    assert [int(row["gate"]) for row in gates] == [-1, *range(PERIODS + 1)]
    assert {row["status"] for row in gates} == {"converged"}
    assert int(gates[0]["iterations"]) == told["day_ahead_iterations"]
    positions = table(settlement / "positions.csv")
    powers = [row for row in positions if row["coupling"] == f"{HOMES}-dso" and row["quantity"] == "p_mw"]
    assert len(powers) == PERIODS
    found = datasets(out / "intra-day" / "boundary.h5")
    with h5py.File(settlement / "market.h5") as tables:
        assert set(tables) == {Path(name).stem for name in STAGES["settlement"] if name.endswith(".csv")}
    mean = 0.5 * (found[f"{HOMES}-dso/p_mw/lower"] + found[f"{HOMES}-dso/p_mw/upper"])
    assert [float(row["realised_mw"]) for row in powers] == pytest.approx(list(mean))


def test_a_run_that_stops_early_says_so_and_keeps_its_results(tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    ended = tieline(capsys, "market", small_case(tmp_path), "--max-iterations", "2", "--out", out)
    assert ended.code == NOT_CONVERGED, ended.errors
    assert summary(out)["converged"] is False and summary(out)["gates_not_converged"] > 0
    assert summary(out / "settlement")["settlement_sum_cents"] == 0
    again = tieline(capsys, "market", tmp_path / "case", "--max-iterations", "1", "--out", out)
    assert again.code == NOT_CONVERGED, "an older result is replaced"


def test_two_days_are_two_folders(tmp_path: Path, capsys) -> None:
    out, days = tmp_path / "out", ["2016-01-13", "2016-01-14"]
    ended = tieline(capsys, "market", two_days(tmp_path), "--max-iterations", "3", "--out", out)
    assert ended.code == NOT_CONVERGED, ended.errors
    assert content(out) == sorted([*days, *STATE, "summary.json"])
    told = [summary(out / day / "settlement") for day in days]
    for day, one in zip(days, told, strict=True):
        assert content(out / day) == sorted(STAGES) and content(out / day / "settlement") == STAGES["settlement"]
        assert (one["periods"], one["gates"], one["case"]) == (24, 2, f"ieee33-10ec@{day}")
    assert summary(out)["days"] == 2
    assert summary(out)["cost_eur"] == pytest.approx(sum(one["cost_eur"] for one in told))
    evening, morning = (
        {name: found[f"battery/{name}"][at] for name in ("energy_kwh", "charge_kw", "discharge_kw")}
        for found, at in (
            (datasets(out / days[0] / "intra-day" / "private" / f"{HOMES}.h5"), -1),
            (datasets(out / days[1] / "day-ahead" / "private" / f"{HOMES}.h5"), 0),
        )
    )
    stored = evening["energy_kwh"] * (1 - 0.0002) + 0.96 * morning["charge_kw"] - morning["discharge_kw"] / 0.96
    assert morning["energy_kwh"] == pytest.approx(stored, abs=0.05)


@pytest.mark.parametrize(("stage", "gates"), [("day-ahead", 0), ("intra-day", 2)])
def test_an_interrupt_ends_the_whole_day(stage: str, gates: int, tmp_path: Path, capsys, monkeypatch) -> None:
    """During the first coordination, or that of the second gate: no further gate follows, and nothing is settled."""
    out, runs, sent = tmp_path / "out", [], []
    solve, answer = admm.solve, QPAgent.answer

    def count(*arguments: object) -> admm.Result:
        runs.append(arguments)
        return solve(*arguments)

    def interrupt(agent: QPAgent, question: admm.Question) -> admm.Answer:
        if len(runs) == gates + 1 and question.iteration == 2 and not sent:
            sent.append(question)
            raise KeyboardInterrupt  # as Python's own handler does; a signal may meet the handler of a solver at work
        return answer(agent, question)

    monkeypatch.setattr(admm, "solve", count)
    monkeypatch.setattr(QPAgent, "answer", interrupt)
    ended = tieline(capsys, "market", small_case(tmp_path), "--out", out)
    assert ended.code == INTERRUPTED and "the day is not settled" in ended.out
    assert len(runs) == gates + 1 and ended.out.count("  gate ") == gates
    assert set(content(out)) - set(STATE) == {"day-ahead", "summary.json"}
    assert ("checkpoint.h5" in content(out)) is (stage == "intra-day")
    assert (
        summary(out)["converged"] is False
        and summary(out)["interrupted"] is True
        and summary(out / "day-ahead")["complete"] is True
    )
    assert summary(out / "day-ahead")["status"] == ("interrupted" if stage == "day-ahead" else "converged")


# ---- what it refuses


class Bad(NamedTuple):
    """What is wrong with the small case, the further arguments, and what the message must say."""

    change: Callable[[Path], object]
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()


def nothing(case: Path) -> None:
    """The case is right."""


def each(*changes: Mutation) -> Mutation:
    def change(case: Path) -> None:
        for one in changes:
            one(case)

    return change


def scenario(name: str, periods: int = PERIODS) -> Mutation:
    def change(case: Path) -> None:
        write_scenario(case, name, [30.0 + 0.1 * t for t in range(periods)])

    return change


def folder_of_scenarios(case: Path) -> None:
    (case.parent / "scenarios").mkdir()
    for number in range(2):
        write_scenario(case, f"{CARS}/load_kw", [30.0] * PERIODS, f"scenarios/{number}.csv")


def without_transmission(case: Path) -> None:
    text = (case / CASE_FILE).read_text(encoding="utf-8")
    begin, end = text.index('[[network]]\nname = "tso"'), text.index('[[network]]\nname = "dso"')
    text = text[:begin] + text[end:]
    old = 'upstream = "tso"\nupstream_bus = 9\nfeeders = 25'
    assert old in text
    text = text.replace(old, 'supply_price_eur_per_mwh = "day_ahead_price_eur_per_mwh"')
    (case / CASE_FILE).write_text(text.replace('"transmission_load_pu"', '"feeder_load_pu"'), encoding="utf-8")


FILE, FOLDER = ("--scenario", "scenario.csv"), ("--scenario", "scenarios")
BAD = {
    "scenario too short": Bad(
        scenario(f"{CARS}/load_kw", 4), ("scenario.csv", "is too short or has a gap", "2016-01-14T17:00Z"), FILE
    ),
    "scenario of nothing": Bad(
        scenario(f"{CARS}/laod_kw"), ("scenario.csv", f"'{CARS}/laod_kw'", f"did you mean '{CARS}/load_kw'?"), FILE
    ),
    "no such scenario": Bad(nothing, ("scenario.csv", "no such file or folder of scenarios"), FILE),
    "too few scenarios": Bad(
        folder_of_scenarios,
        ("scenarios", "draw is 2", "there are 2 scenario files", "at most 1"),
        (*FOLDER, "--draw", "2"),
    ),
    "negative deviation": Bad(
        edit(CASE_FILE, "std_share = 0.06", "std_share = -0.06"), ("case.toml", "std_share", "-0.06", "0")
    ),
    "no distribution": Bad(
        edit(CASE_FILE, 'distribution = "beta"', 'distribution = "betta"'), ("case.toml", "distribution", "betta")
    ),
    "gate after delivery": Bad(
        add_rule("lead_minutes = -60"), ("lead_minutes is -60", "multiple of the step", "a gate after delivery")
    ),
    "gates off the step": Bad(
        add_rule("gate_minutes = 90"), ("gate_minutes is 90", "multiple of the step (60 minutes)", "at least 60")
    ),
    "gates off the horizon": Bad(
        add_rule("gate_minutes = 720"), ("gate_minutes is 720", "less than the horizon's 360")
    ),
    "no time between gates": Bad(add_rule("gate_minutes = 0"), ("gate_minutes is 0", "at least 60")),
    "unknown rule": Bad(
        add_rule("spread_shares = 0.1"), ("case.toml", "spread_shares", "did you mean 'spread_share'?")
    ),
    "pattern of nothing": Bad(
        edit(CASE_FILE, 'applies_to = ["*/load_kw"]', 'applies_to = ["*/laod_kw"]'),
        ("market.error 'loads-of-communities'", "'*/laod_kw'", "expected what matches a name"),
    ),
    "class of nothing": Bad(
        edit(CASE_FILE, 'applies_to = ["*"]', 'applies_to = ["*/vans/*"]'), ("market.ev_error 'cars'", "'*/vans/*'")
    ),
    "perfect with seed": Bad(nothing, ("--perfect", "--seed"), ("--perfect", "--seed", "3")),
    "perfect with scenario": Bad(
        scenario(f"{CARS}/load_kw"), ("--perfect", "--scenario"), ("--perfect", *FILE)
    ),
    "negative draw": Bad(nothing, ("--draw", "'-1'", "at least 0"), ("--draw", "-1")),
    "no transmission": Bad(without_transmission, ("has 0 transmission networks", "expected one")),
}  # fmt: skip


def check_refused(ended: Ended, words: tuple[str, ...]) -> None:
    assert ended.code == BAD_INPUT, ended
    assert ended.errors.startswith("tieline: ") and ended.errors.count("\n") == 1, ended.errors
    for word in words:
        assert word in ended.errors


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(bad: Bad, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad.change(small_case(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    check_refused(tieline(capsys, "market", "case", "--out", "out", *bad.arguments), bad.words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_day_and_a_half_is_refused(tmp_path: Path, capsys) -> None:
    case = small_case(tmp_path)
    edit(CASE_FILE, f"periods = {PERIODS}", "periods = 36")(case)
    ended = tieline(capsys, "market", case, "--out", tmp_path / "out")
    check_refused(ended, ("case.toml", "periods is 36", "multiple of a day's 24"))
    assert not (tmp_path / "out").exists()


def test_a_gas_network_is_refused(tmp_path: Path, capsys) -> None:
    ended = tieline(capsys, "market", "feeder118-gas65", "--out", tmp_path / "out")
    check_refused(ended, ("gas network 'gas'", "electricity only", "use 'tieline run'"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "day-ahead", "settlement"])
def test_a_folder_of_others_is_no_output_folder(below: str, tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    (out / below).mkdir(parents=True)
    (out / below / "thesis.tex").write_text("mine")
    ended = tieline(capsys, "market", case, "--out", out)
    check_refused(ended, (f"--out {out}", "'thesis.tex'", "empty or new folder"))
    assert [path.name for path in out.rglob("*.*")] == ["thesis.tex"]


def test_bad_input_leaves_an_older_result_alone(tmp_path: Path, capsys) -> None:
    case, out = small_case(tmp_path), tmp_path / "out"
    older = [out / "summary.json", out / "settlement" / "settlement.csv", out / "day-ahead" / "private" / "dso.h5"]
    for file in older:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("older")
    add_rule("lead_minutes = -60")(case)
    check_refused(tieline(capsys, "market", case, "--out", out), ("lead_minutes",))
    assert sorted(path for path in out.rglob("*.*")) == sorted(older)
    assert all(file.read_text() == "older" for file in older)


def test_what_ends_at_a_gate_leaves_no_older_result_that_looks_complete(tmp_path: Path, capsys) -> None:
    """The day-ahead market is cleared anew; what stood above it and behind it belongs to another run."""
    case, out = small_case(tmp_path), tmp_path / "out"
    older = [out / "summary.json", *(out / stage / "summary.json" for stage in STAGES)]
    for file in older:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"complete": true}')
    edit(CASE_FILE, 'applies_to = ["*/pv_pu_own", "pv_pu"]', 'applies_to = ["temperature_degc"]')(case)
    ended = tieline(capsys, "market", case, "--max-iterations", "1", "--out", out)
    check_refused(ended, ("series 'temperature_degc' is 4 in period 0", "a share of capacity"))
    assert [file.exists() for file in older] == [False, True, False, False]
    assert summary(out / "day-ahead")["case"] == "ieee33-10ec"


# ---- tieline check


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=name) for name, bad in BAD.items() if not bad.arguments and name != "no transmission"]
)
def test_check_reads_the_rules_of_the_market_too(bad: Bad, tmp_path: Path, capsys) -> None:
    case = small_case(tmp_path)
    bad.change(case)
    check_refused(tieline(capsys, "check", case), bad.words)


def test_check_knows_cases_without_a_market(tmp_path: Path, capsys) -> None:
    """Rules that would be wrong on the market do not matter where there is none."""
    case = small_case(tmp_path)
    without_transmission(case)
    add_rule("gate_minutes = 90")(case)
    assert tieline(capsys, "check", case).code == 0
