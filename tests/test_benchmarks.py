"""The benchmark harness on tiny subjects: it counts failures, leaves nothing out, and says what it did."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

import admm
from benchmarks.__main__ import COMMANDS, main
from benchmarks.comparison import by_family, known, resolved
from benchmarks.convergence import reductions
from benchmarks.example_entry import two_shops
from benchmarks.figures import profile_ratios
from benchmarks.grid import VALUES, best_values, read_best
from benchmarks.headline import medians
from benchmarks.measure import Row, cold_start, measure
from benchmarks.perturb import LOAD_ERROR, load_rows, perturbed, pv_rows
from benchmarks.problem_files import FOLDER, problem_names, read_problem
from benchmarks.registry import chosen, registry
from benchmarks.round_trips import break_even, wall_seconds
from benchmarks.tables import markdown_table, median_and_worst, read_csv
from benchmarks.variants import BASELINES, BEST_OF_FAMILY, BEST_OF_INSTANCE, CONVERGENCE
from benchmarks.wrong_start import ratio_table
from subproblems import QPAgent
from tests.tolerances import OF_TURNOVER, SOLVER

EXAMPLE = str(Path(__file__).parent.parent / "benchmarks" / "example_entry.py")
TINY = ["--with", EXAMPLE, "--subjects", "two-shops-00"]
TIME_LIMIT_SECONDS = 20.0


def row_for(subject, cap: int) -> Row:
    return Row(subject.name, subject.family, "v", "two-block", "classical", "none", "zero", "piqp", cap, None)


def run_tiny(cap: int, penalty: str = "classical:1", until: str = "stop") -> Row:
    subject = two_shops()
    row = row_for(subject, cap)
    measure(row, subject, {"penalty": penalty, "acceleration": "none", **cold_start(subject, "zero")}, until)
    return row


def hand_made_grid() -> list[dict]:
    """Two instances of a family: 1 is best on both together, 0.1 and 10 on one each, 10 fails on the other."""
    counts = {"fam-00": {0.1: 20, 1: 30, 10: 25}, "fam-01": {0.1: 90, 1: 40, 10: None}}
    return [
        {"subject": s, "family": "fam", "variant": f"classical:{v:g}", "yardstick_exchanges": n, "boyd_exchanges": 5}
        for s, of in counts.items()
        for v, n in of.items()
    ]


# ---------------------------------------------------------------- one run


def test_the_optimum_of_the_example_is_the_one_by_hand():
    """Both shops shed alike: 200 (load - p) = 30 + 80 s with s = p_a + p_b, or s at its limit."""
    load = np.array([[0.2, 0.4, 0.5, 0.3], [0.3, 0.3, 0.3, 0.2]])
    supply = np.minimum((200 * load.sum(axis=0) - 60) / (200 + 160), 0.25)
    shed = (load.sum(axis=0) - supply) / 2
    assert (shed < load).all() and (supply == 0.25).any()
    by_hand = (30 * supply + 40 * supply**2 + 2 * 100 * shed**2).sum()
    assert two_shops().optimum_eur == pytest.approx(by_hand, rel=SOLVER)


def test_a_run_meets_the_yardstick_at_the_first_exchange_that_does():
    row = run_tiny(cap=200, until="yardstick")
    assert row.status == "stopped" and row.yardstick_exchanges > 1
    assert abs(row.end_gap) <= OF_TURNOVER and row.end_mismatch <= 1e-3
    before = run_tiny(cap=row.yardstick_exchanges - 1)
    assert before.yardstick_exchanges is None
    assert row.solves == 3 * row.yardstick_exchanges and row.bytes > 0 and row.seconds > 0


def test_what_is_not_met_within_the_cap_is_a_failure_and_counts_as_one():
    row = run_tiny(cap=3, penalty="classical:0.001")
    assert row.status == "max_iterations"
    assert (row.boyd_exchanges, row.yardstick_exchanges, row.stop_exchanges) == (None, None, None)
    assert median_and_worst([10, 20, row.yardstick_exchanges]) == "20/inf"
    assert median_and_worst([10, None, None, 20]) == "inf/inf"


def test_a_run_that_raises_is_a_failure_and_not_the_end():
    class Broken(QPAgent):
        def answer(self, question):
            if question.iteration == 3:
                raise admm.SolverError("the solver gave up")
            return super().answer(question)

    subject = two_shops()
    broken = {name: Broken(program, solver="piqp") for name, program in subject.programs.items()}
    object.__setattr__(subject, "agents", lambda solver: broken)
    row = row_for(subject, 50)
    measure(row, subject, {"penalty": "classical:1", **cold_start(subject, "zero")})
    assert row.yardstick_exchanges is None and "gave up" in row.status


def test_a_variant_that_stops_early_is_run_on_to_the_yardstick():
    subject = two_shops()
    row = row_for(subject, 200)
    loose = {"consensus_tolerance": 0.5, "optimality_tolerance": 0.5, "absolute_tolerance": 0.5}
    measure(row, subject, {"penalty": "classical:1", "acceleration": "none", **loose, **cold_start(subject, "zero")})
    assert row.stop_exchanges < row.yardstick_exchanges == run_tiny(cap=200).yardstick_exchanges


def test_all_start_at_the_same_point():
    subject = two_shops()
    assert not any(v.any() for of in cold_start(subject, "zero")["initial_price"].values() for v in of.values())
    assert cold_start(subject, "flat")["initial_price"]["shop-a-grid"]["p_mw"].tolist() == [50.0] * 4
    with pytest.raises(admm.InputError, match="'zero' or 'flat'"):
        cold_start(subject, "warm")


# ---------------------------------------------------------------- grid and baselines


def test_the_grid_has_21_even_values_over_six_decades_and_each_is_run(tmp_path, capsys):
    assert len(VALUES) == 21 and VALUES[0] == 1e-3 and VALUES[-1] == 1e3
    assert np.allclose(np.diff(np.log10(VALUES)), 0.3, atol=1e-5)
    assert main(["grid", *TINY, "--out", str(tmp_path), "--cap", "30", "--processes", "1"]) == 0
    rows = read_csv(tmp_path / "grid.csv")
    assert [row["variant"] for row in rows] == [f"classical:{value:g}" for value in VALUES]
    assert any(row["yardstick_exchanges"] is None for row in rows), "failures stay in"
    assert all(row["cap"] == 30 for row in rows)
    reached = {row["variant"]: row["yardstick_exchanges"] for row in rows if row["yardstick_exchanges"]}
    assert reached[read_best(tmp_path).of_instance["two-shops-00"]] == min(reached.values())


def test_best_values_of_a_grid_made_by_hand():
    best = best_values(hand_made_grid())
    assert best.of_instance == {"fam-00": "classical:0.1", "fam-01": "classical:1"}
    assert best.of_family == {"fam": "classical:1"}  # medians 55, 35, inf


def test_where_no_value_succeeds_boyd_decides_and_the_instance_keeps_its_baseline():
    rows = [row | {"yardstick_exchanges": None} for row in hand_made_grid()]
    rows[2]["boyd_exchanges"] = 2
    assert best_values(rows).of_instance["fam-00"] == "classical:10"


def test_a_baseline_without_a_grid_says_what_to_run():
    for penalty in (BEST_OF_FAMILY, BEST_OF_INSTANCE):
        with pytest.raises(admm.InputError, match="python -m benchmarks grid"):
            resolved({"penalty": penalty}, two_shops(), best_values([]))
    found = best_values([row | {"subject": "two-shops-00"} for row in hand_made_grid()[:3]])
    assert resolved({"penalty": BEST_OF_INSTANCE}, two_shops(), found)["penalty"] == "classical:0.1"


def test_the_four_baselines_are_plain_and_in_every_comparison():
    assert len(BASELINES) == 4 and set(BASELINES) <= set(CONVERGENCE)
    assert all(variant["acceleration"] == "none" for variant in BASELINES.values())


# ---------------------------------------------------------------- registration and commands


def test_an_example_entry_shows_up_in_the_same_table(tmp_path):
    wanted = ["--variants", "square-root", "classical, 1 per unit"]
    assert main(["convergence", *TINY, *wanted, "--cap", "300", "--skip-unknown", "--out", str(tmp_path)]) == 0
    with (tmp_path / "convergence.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == [field.name for field in fields(Row)]
    assert [row["variant"] for row in rows] == ["classical, 1 per unit", "square-root"]
    assert rows[1]["penalty"] == "square-root" and rows[1]["yardstick_exchanges"]
    assert "square-root" in (tmp_path / "convergence.md").read_text()
    assert (tmp_path / "performance_profile.png").stat().st_size > 0


def test_resume_keeps_rows_and_runs_the_rest(tmp_path):
    common = [*TINY, "--cap", "20", "--skip-unknown", "--out", str(tmp_path)]
    main(["convergence", *common, "--variants", "classical, 1 per unit"])
    before = read_csv(tmp_path / "convergence.csv")
    main(["convergence", *common, "--variants", "classical, 1 per unit", "square-root", "--resume"])
    after = read_csv(tmp_path / "convergence.csv")
    assert after[0] == before[0] and len(after) == 2


def test_again_replaces_the_chosen_rows_only_and_tables_show_all(tmp_path):
    common = [*TINY, "--skip-unknown", "--out", str(tmp_path)]
    main(["convergence", *common, "--cap", "20", "--variants", "classical, 1 per unit", "square-root"])
    before = read_csv(tmp_path / "convergence.csv")
    main(["convergence", *common, "--cap", "3", "--variants", "square-root", "--again"])
    after = read_csv(tmp_path / "convergence.csv")
    assert after[0] == before[0] and [row["cap"] for row in after] == [20, 3]
    assert "classical, 1 per unit" in (tmp_path / "convergence.md").read_text()


def test_without_a_baseline_there_is_no_table_of_reductions(tmp_path):
    main(["convergence", *TINY, "--cap", "3", "--variants", "square-root", "--out", str(tmp_path)])
    text = (tmp_path / "convergence.md").read_text()
    assert "square-root" in text and text.count("| --- ") and "baseline" not in text


@pytest.mark.parametrize("words", [["--processes", "0"], ["--cap", "-3"], ["--cap", "many"]])
def test_a_count_of_nothing_is_refused(capsys, words):
    with pytest.raises(SystemExit) as end:
        main(["grid", *words])
    assert end.value.code == 2 and "whole number of at least 1" in capsys.readouterr().err


def test_an_option_that_a_command_does_not_heed_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["main_case", "--again"])
    assert end.value.code == 2 and "--again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--with", "nowhere.py"], "no such file"),
        (["--subjects", "feeder33-tso57-0"], "did you mean 'feeder33-tso57-"),
        (["--variants", "nonsense"], "no variant is called 'nonsense'"),
    ],
)
def test_bad_input_is_said_in_one_line(arguments, words, capsys, tmp_path):
    assert main(["convergence", *arguments, "--skip-unknown", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_file_without_entries_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("X = 1\n")
    with pytest.raises(admm.InputError, match="neither VARIANTS nor PROBLEMS"):
        registry((str(tmp_path / "empty.py"),))


def test_an_unknown_variant_is_an_error_unless_it_may_be_left_out(capsys):
    odd = {"good": {}, "odd": {"penalty": "no-such-policy"}}
    with pytest.raises(admm.InputError, match="variant 'odd'"):
        known(odd, skip=False)
    assert list(known(odd, skip=True)) == ["good"]
    assert "left out: odd" in capsys.readouterr().out


def test_every_command_explains_itself(capsys):
    for path in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([path.rpartition(".")[2], "--help"])
        assert end.value.code == 0
    assert chosen(["a1", "b1"], ["a*"], "subject") == ["a1"]


# ---------------------------------------------------------------- tables


def table_rows() -> list[dict]:
    counts = {("a", "default"): 10, ("a", "x"): 20, ("b", "default"): 10, ("b", "x"): None}
    made = []
    for (subject, variant), count in counts.items():
        row = Row(f"f-{subject}", "f", variant, "", "", "", "zero", "piqp", 50, None)
        row.yardstick_exchanges, row.seconds = count, 1.0 if variant == "default" else 0.5
        made.append(asdict(row))
    return made


def test_tables_count_failures_as_infinite():
    line = by_family(table_rows())[1]
    assert line["f: yardstick"] == "inf/inf" and line["f: boyd"] == "inf/inf"
    assert profile_ratios(table_rows(), "yardstick_exchanges") == {"default": [1.0, 1.0], "x": [2.0, math.inf]}
    assert [line["x"] for line in ratio_table(table_rows())] == [2.0, math.inf, math.inf]
    assert "not reached" in markdown_table([{"n": None, "versions": "v"}], "Note.")


def test_below_a_table_stands_what_all_of_its_rows_were_made_with():
    rows = [{"n": 1, "versions": "v", "machine": one} for one in ("old", "new", "old")]
    assert markdown_table(rows, "Note.").endswith("\nNote. v. old, or new.\n")


def test_reductions_are_those_of_medians():
    counts = {"classical, 1 per unit": (40, 50, None), "default": (10, 20, 30), "memory": (None, None, 5)}
    rows = [
        {"family": "f", "variant": v, "yardstick_exchanges": n, "versions": "", "machine": ""}
        for v, found in counts.items()
        for n in found
    ]
    (line,) = reductions(rows)
    assert (line["median"], line["default"], line["memory"]) == (50, "60 %", "-")


def test_the_headline_counts_failures_and_says_by_how_much_the_default_is_lower():
    rows = [
        {"variant": v, "subject": s, "yardstick_exchanges": n, "bytes": 1e6 * (n or 9), "seconds": 2.0 * (n or 9)}
        | {"versions": "", "machine": ""}
        for v, of in {
            "classical, 1 per unit": (40, 60),
            "classical, 1 in raw units": (30, None),
            "default": (20, 30),
        }.items()
        for s, n in zip(("winter", "summer"), of, strict=True)
    ]
    one, raw, default = medians(rows)
    assert (one["winter"], one["summer"]) == ("40", "60") and one["median MB"] == "50 (50 %)"
    assert raw["summer"] == "inf" and raw["median seconds"] == "inf (-)"
    assert default["median exchanges"] == "25"


def test_round_trips_add_up_and_break_even_is_where_the_lines_cross():
    row = {"subject": "s", "variant": "memory", "yardstick_exchanges": 10, "seconds": 5.0}
    base = {"subject": "s", "variant": "default", "yardstick_exchanges": 40, "seconds": 2.0}
    assert wall_seconds(row, 0.1) == pytest.approx(6.0)
    assert break_even([row, base], "memory") == "0.1 s"  # (5 - 2) / (40 - 10)
    assert wall_seconds(row | {"yardstick_exchanges": None}, 0.0) == math.inf
    assert break_even([row | {"yardstick_exchanges": None}, base], "memory") == "never"
    assert break_even([row | {"yardstick_exchanges": 50}, base], "memory") == "never"


# ---------------------------------------------------------------- errors of load and PV


def test_errors_touch_load_and_pv_and_nothing_else():
    name = "feeder33-tso57-00"
    meta = json.loads(str(np.load(FOLDER / f"{name}.npz")["meta"]))
    before = read_problem(name)
    after = perturbed(before, seed=1)
    communities = [a["name"] for a in meta["agents"] if a["side"] == "participant" and a["name"] != "tso"]
    for agent, program in before.programs.items():
        moved = np.flatnonzero((program.l != after[agent].l) | (program.u != after[agent].u))
        if agent not in communities:
            assert moved.size == 0
            continue
        load, sun = load_rows(program), np.concatenate(list(pv_rows(program)))
        assert load.size == meta["periods"] and sun.size == meta["periods"]
        assert set(moved) <= {*load.tolist(), *sun.tolist()} and set(load.tolist()) <= set(moved)
    ratio = np.concatenate([
        after[a].u[load_rows(before.programs[a])] / before.programs[a].u[load_rows(before.programs[a])]
        for a in communities
    ])  # fmt: skip
    assert 0.7 * LOAD_ERROR < ratio.std() < 1.3 * LOAD_ERROR
    again, other = perturbed(before, seed=1), perturbed(before, seed=2)
    assert np.array_equal(again["ec0"].u, after["ec0"].u) and not np.array_equal(other["ec0"].u, after["ec0"].u)


def test_all_bundled_subjects_are_registered():
    assert {*problem_names()} < set(registry().subjects) and "ieee33-10ec" in registry().subjects
