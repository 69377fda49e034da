"""Warm starts: which former period stands for which new one, what is refused, and that they save iterations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

import admm
from admm.cli import main
from admm.history import read_boundary, write_boundary
from admm.state import BoundaryResult
from tests.case_tools import BUNDLED_CASE, Ended, copy_case, edit, tieline
from tests.small_problems import coupling, pair, triangle
from tests.tolerances import EXACT

WARM_SHARE = 0.4
"""Iterations of a run that starts from its own result, as a share of those from a cold start."""
FIRST_ITERATIONS = 4
"""Enough for every agent to be asked again and again; the start shows at once."""


def former(values: Sequence[float], unit: str = "MW", penalty: bool = True) -> dict[str, dict[str, BoundaryResult]]:
    """One quantity whose lower value, upper value, price and penalty all tell which period they are of."""
    array = np.array(values, dtype=float)
    given = 1.0 + array if penalty else None
    return {"a-b": {"p_mw": BoundaryResult(array - 0.5, array + 0.5, 10 * array, unit, penalty=given)}}


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("old", "new", "shift", "day", "expected"),
    [
        pytest.param(4, 4, 0, 24, [0, 1, 2, 3], id="the same horizon"),
        pytest.param(4, 4, 1, 24, [1, 2, 3, 3], id="less than a day: the last value goes on"),
        pytest.param(4, 4, -2, 24, [0, 0, 0, 1], id="earlier: the first value"),
        pytest.param(4, 4, 9, 24, [3, 3, 3, 3], id="far beyond less than a day"),
        pytest.param(4, 4, 1, 4, [1, 2, 3, 0], id="a day is over: its first hour again"),
        pytest.param(4, 4, 4, 4, [0, 1, 2, 3], id="the next day"),
        pytest.param(4, 4, 4 * 365 + 1, 4, [1, 2, 3, 0], id="a year and an hour later"),
        pytest.param(4, 4, -5, 4, [3, 0, 1, 2], id="a day and an hour earlier"),
        pytest.param(6, 6, 3, 4, [3, 4, 5, 2, 3, 4], id="the last day, not the first one"),
        pytest.param(6, 3, 5, 4, [5, 2, 3], id="a shorter horizon"),
        pytest.param(4, 10, 0, 4, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1], id="a longer horizon"),
        pytest.param(3, 5, 0, None, [0, 1, 2, 2, 2], id="no day"),
    ],
)
def test_each_new_period_begins_as_the_right_former_one(old, new, shift, day, expected) -> None:
    start = admm.warm_start(former(range(old)), [coupling("a-b", "a", "b", new)], shift, day)
    assert start.values["a-b"]["p_mw"].tolist() == expected
    assert start.price["a-b"]["p_mw"].tolist() == [10 * period for period in expected]
    assert not start.added and not start.dropped


@pytest.mark.parametrize(("shift", "day", "kept"), [(0, None, True), (4, 4, True), (-8, 4, True), (1, 4, False)])
def test_penalties_stay_with_their_hours_of_the_day(shift, day, kept) -> None:
    start = admm.warm_start(former(range(4)), [coupling("a-b", "a", "b", 4)], shift, day)
    assert start.penalty.get("a-b", {}).get("p_mw", np.zeros(0)).tolist() == ([1.0, 2.0, 3.0, 4.0] if kept else [])


def test_a_centralised_result_has_no_penalty() -> None:
    start = admm.warm_start(former(range(4), penalty=False), [coupling("a-b", "a", "b", 4)])
    assert start.penalty == {} and start.price["a-b"]["p_mw"].tolist() == [0, 10, 20, 30]


def test_new_couplings_start_at_0_and_old_ones_are_left_out_and_both_are_said() -> None:
    boundary = former(range(2)) | {"gone": former(range(2))["a-b"]}
    couplings = [coupling("a-b", "a", "b", 2), coupling("new", "c", "b", 2)]
    start = admm.warm_start(boundary, couplings)
    assert (start.added, start.dropped) == (("new/p_mw",), ("gone/p_mw",))
    assert set(start.price) == set(start.values) == set(start.penalty) == {"a-b"}


@pytest.mark.parametrize(
    ("boundary", "shift", "words"),
    [
        (former(range(2), unit="kW"), 0, "'a-b', 'p_mw' is in kW in the former result, expected MW"),
        ({"x-y": former(range(2))["a-b"]}, 0, "has none of the couplings, expected some of .*a-b/p_mw.*x-y/p_mw"),
        ({}, 0, "has none of the couplings"),
        (former(range(2)), 0.5, "the shift is 0.5"),
        (former(range(2)), True, "the shift is True"),
        (former(range(2)), 10**30, "the shift is 10+, expected a whole number of periods up to 1e.10"),
        (
            {"a-b": {"p_mw": BoundaryResult(np.zeros(2), np.zeros(3), np.zeros(2), "MW")}},
            0,
            r"shapes \[\(2,\), \(3,\)\]",
        ),
        ({"a-b": {"p_mw": BoundaryResult(*[np.zeros((2, 2))] * 3, "MW")}}, 0, "one shape"),
    ],
)
def test_what_does_not_fit_is_refused(boundary, shift, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        admm.warm_start(boundary, [coupling("a-b", "a", "b", 2)], shift)


# ---------------------------------------------------------------- in a run


@pytest.mark.parametrize("make", [pair, triangle])
def test_a_run_from_its_own_result_ends_at_once(make) -> None:
    problem = make()
    cold = problem.solve()
    start = admm.warm_start(cold.boundary, problem.couplings)
    warm = problem.solve(initial_price=start.price, initial_values=start.values, initial_penalty=start.penalty)
    assert warm.iterations <= 2 < cold.iterations
    assert warm.objective == pytest.approx(problem.objective, rel=1e-6)


def test_a_given_penalty_takes_the_place_of_the_policys_start_entry_by_entry() -> None:
    """In units of price scale / scale = 2.5: 10 and 40 where it is given, the policy's own 3 elsewhere."""
    problem = pair()
    first = problem.solve(initial_penalty={"low-up": {"p_mw": [25.0, 100.0]}}, penalty="classical:3", max_iterations=1)
    assert first.boundary["low-up"]["p_mw"].penalty.tolist() == [25.0, 100.0]
    assert first.history[0].penalty == pytest.approx(20.0, rel=EXACT)
    other = problem.solve(penalty="classical:3", max_iterations=1)
    assert other.boundary["low-up"]["p_mw"].penalty.tolist() == [7.5, 7.5]


@pytest.mark.parametrize("values", [[1.0, 0.0], [1.0, -2.0], [1.0], [1.0, np.inf]])
def test_a_useless_penalty_is_refused(values: list[float]) -> None:
    with pytest.raises(admm.InputError, match="settings: initial_penalty of 'low-up', 'p_mw' has"):
        pair().solve(initial_penalty={"low-up": {"p_mw": values}})


def test_settings_take_a_start() -> None:
    start = admm.warm_start(former(range(2)), [coupling("a-b", "a", "b", 2)])
    settings = start.applied_to(admm.Settings(max_iterations=7))
    assert settings.max_iterations == 7
    assert (settings.initial_price, settings.initial_values) == (start.price, start.values)
    assert settings.initial_penalty == start.penalty


# ---------------------------------------------------------------- boundary.h5


def test_a_boundary_file_comes_back_as_it_was(tmp_path: Path) -> None:
    boundary = triangle().solve().boundary
    write_boundary(tmp_path / "boundary.h5", boundary, {})
    found = read_boundary(tmp_path / "boundary.h5", periods=1)
    for name, quantities in boundary.items():
        one, other = found[name]["p_mw"], quantities["p_mw"]
        assert (one.unit, one.scale) == (other.unit, other.scale)
        for key in ("lower", "upper", "price", "penalty"):
            assert np.array_equal(getattr(one, key), getattr(other, key)), key
    write_boundary(tmp_path / "other.h5", former(range(4), penalty=False), {})
    assert read_boundary(tmp_path / "other.h5", periods=4)["a-b"]["p_mw"].penalty is None


def put(name: str, values: object) -> Callable[[h5py.File], None]:
    """Puts other values in the place of a dataset, or removes it."""

    def change(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        if values is not None:
            file[name] = values
            file[name].attrs.update(attributes)

    return change


def penalty(value: object) -> Callable[[h5py.File], None]:
    return lambda file: file["a-b/p_mw"].attrs.__setitem__("penalty", value)


def stored(**how: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["a-b/p_mw/upper"]
        file.create_dataset("a-b/p_mw/upper", (2,), "f8", **how)

    return change


def unit(value: object) -> Callable[[h5py.File], None]:
    return lambda file: file["a-b/p_mw"].attrs.__setitem__("unit", value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("a-b/p_mw/price", [0.0, np.nan]), "/a-b/p_mw/price is nan in period 1, expected finite numbers"),
        (put("a-b/p_mw/upper", [np.inf, 0.0]), "/a-b/p_mw/upper is inf in period 0"),
        (put("a-b/p_mw/lower", np.zeros(3)), r"/a-b/p_mw/lower has shape \(3,\) of type float64, expected 2 numbers"),
        (put("a-b/p_mw/lower", np.zeros((2, 2))), r"shape \(2, 2\)"),
        (put("a-b/p_mw/lower", [b"1", b"2"]), "expected 2 numbers"),
        (put("a-b/p_mw/price", None), "/a-b/p_mw/price is not there"),
        (penalty([1.0, 0.0]), "/a-b/p_mw, attribute penalty, is .*, expected 2 numbers above 0"),
        (penalty([1.0]), "expected 2 numbers above 0"),
        (penalty("x"), "/a-b/p_mw, attribute penalty, has type object, expected numbers"),
        (put("a-b/p_mw", 1.0), "/a-b/p_mw is no group"),
        (put("a-b", np.zeros(2)), "/a-b is no group"),
        (unit(3.0), "/a-b/p_mw, attribute unit, has type float64, expected text"),
        (unit("MW"), "/a-b/p_mw, attribute unit, has type object, expected text of fixed length"),
        (lambda file: file["a-b/p_mw"].attrs.__setitem__("scale", -1.0), "/a-b/p_mw has the scale"),
        (lambda file: file.__setitem__("c-d", h5py.SoftLink("/nowhere")), "/c-d is no group"),
        (lambda file: file.__setitem__("c-d", h5py.ExternalLink("boundary.h5", "/a-b")), "/c-d is no group"),
        (stored(chunks=(1,)), "/a-b/p_mw/upper is stored in pieces or elsewhere, expected a plain array"),
        (stored(external="other.raw"), "/a-b/p_mw/upper is stored in pieces or elsewhere"),
    ],
)
def test_a_spoilt_boundary_file_is_named_with_file_and_array(tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "boundary.h5"
    write_boundary(path, former(range(2)), {})
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(admm.InputError, match=f"boundary.h5: .*{words}"):
        read_boundary(path, periods=2)


def test_what_is_no_boundary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(admm.InputError, match="nowhere.h5: is not there"):
        read_boundary(tmp_path / "nowhere.h5", periods=2)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(admm.InputError, match="text.h5: cannot be read"):
        read_boundary(tmp_path / "text.h5", periods=2)
    write_boundary(tmp_path / "whole.h5", former(range(2)), {})
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(admm.InputError, match="half.h5: cannot be read"):
        read_boundary(tmp_path / "half.h5", periods=2)


# ---------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def completed(tmp_path_factory) -> Path:
    """The output folder of a completed run of the main case."""
    out = tmp_path_factory.mktemp("former") / "out"
    assert main(["run", BUNDLED_CASE, "--out", str(out)]) == 0
    return out


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def start_from(capsys, former_run: Path, out: Path, *more: str, case: str = BUNDLED_CASE) -> Ended:
    return tieline(capsys, "run", case, "--out", out, "--warm-start", former_run, *more)


def test_the_main_case_from_its_own_result(capsys, completed: Path, tmp_path: Path) -> None:
    ended = start_from(capsys, completed, tmp_path / "out")
    assert ended.code == 0, ended.errors
    assert f"warm start from {completed}, shifted by 0 periods\n" in ended.out
    cold, warm = summary_of(completed), summary_of(tmp_path / "out")
    assert warm["warm_start"] == str(completed) and cold["warm_start"] is None
    assert warm["iterations"] <= WARM_SHARE * cold["iterations"]
    assert abs(warm["gap_to_reference"]) <= 1e-4


def test_the_same_start_on_several_ranks(capsys, mpirun, completed: Path, tmp_path: Path) -> None:
    arguments = ["run", BUNDLED_CASE, "--warm-start", str(completed), "--max-iterations", str(FIRST_ITERATIONS)]
    assert tieline(capsys, *arguments, "--out", str(tmp_path / "alone")).code == 3
    done = mpirun(3, "-m", "admm", *arguments, "--out", str(tmp_path / "ranks"))
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("warm start from") == 1
    alone, ranks = (read_boundary(tmp_path / name / "boundary.h5", 24) for name in ("alone", "ranks"))
    for name, quantities in alone.items():
        for quantity, values in quantities.items():
            for key in ("lower", "upper", "price", "penalty"):
                expected = getattr(values, key)
                found = getattr(ranks[name][quantity], key)
                np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT * np.abs(expected).max())


@pytest.mark.parametrize(("more", "shift"), [([], 6), (["--shift", "-1"], -1)])
def test_a_later_start_is_shifted_by_itself_unless_told(
    capsys, completed: Path, tmp_path: Path, more, shift: int
) -> None:
    case = copy_case(tmp_path)
    edit("case.toml", "start = 2016-01-13T23:00:00Z", "start = 2016-01-14T05:00:00Z")(case)
    edit("case.toml", "periods = 24", "periods = 18")(case)
    ended = start_from(capsys, completed, tmp_path / "out", "--max-iterations", "1", *more, case=str(case))
    assert ended.code == 3, ended.errors
    assert f"shifted by {shift} periods\n" in ended.out


@pytest.mark.parametrize(("policy", "kept"), [("adaptive", True), ("adaptive:0.7", False)])
def test_penalties_are_taken_over_by_their_own_policy_only(capsys, completed, tmp_path, policy, kept: bool) -> None:
    out = tmp_path / "out"
    assert start_from(capsys, completed, out, "--penalty", policy, "--max-iterations", "1").code == 3
    found, former_run = (read_boundary(path / "boundary.h5", 24) for path in (out, completed))
    same = [np.array_equal(found[c][q].penalty, former_run[c][q].penalty) for c in found for q in found[c]]
    assert same == [kept] * len(same)


def spoilt(completed: Path, to: Path, **changes: object) -> Path:
    """A copy of a completed run whose summary says something else; None removes a key."""
    shutil.copytree(completed, to)
    summary = {key: value for key, value in (summary_of(to) | changes).items() if value is not None}
    (to / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return to


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"complete": None}, "summary.json: does not say complete = true"),
        ({"step_minutes": 15}, "summary.json: step_minutes is 15, expected 60 as in the case"),
        ({"step_minutes": "60"}, "summary.json: step_minutes is '60', expected a whole number"),
        ({"periods": 25}, "lower has shape (24,) of type float64, expected 25 numbers"),
        ({"periods": None}, "summary.json: periods is None"),
        ({"start_utc": "2016-01-13T23:30Z"}, "expected a whole number of periods of 60 minutes"),
        ({"start_utc": "yesterday"}, "summary.json: start_utc is 'yesterday', expected a time such as"),
    ],
)
def test_a_former_run_that_does_not_fit_ends_with_one_line(
    capsys, completed, tmp_path: Path, changes, words: str
) -> None:
    ended = start_from(capsys, spoilt(completed, tmp_path / "former", **changes), tmp_path / "out")
    check_refused(ended, tmp_path / "out", words)


def check_refused(ended: Ended, out: Path, words: str) -> None:
    assert ended.code == 2
    assert words in ended.errors and len(ended.errors.splitlines()) == 1
    assert not out.exists()


def test_a_damaged_boundary_file_is_refused_before_it_is_opened(capsys, completed: Path, tmp_path: Path) -> None:
    """A bit of a number that flips makes another number; elsewhere in the file it may keep HDF5 busy for ever."""
    former_run = spoilt(completed, tmp_path / "former")
    content = bytearray((former_run / "boundary.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (former_run / "boundary.h5").write_bytes(content)
    ended = start_from(capsys, former_run, tmp_path / "out")
    check_refused(
        ended, tmp_path / "out", "boundary.h5: is not the file that its summary.json belongs to, or is damaged"
    )


def test_texts_of_variable_length_are_not_read(tmp_path: Path) -> None:
    """A size of 0 in the heap where HDF5 keeps them makes it go round in circles; users' texts are there."""
    path = tmp_path / "boundary.h5"
    write_boundary(path, former(range(2)), {})
    content = path.read_bytes()
    heap = content.index(b"GCOL") + 16
    path.write_bytes(content[:heap] + bytes(16) + content[heap + 16 :])
    assert read_boundary(path, 2)["a-b"]["p_mw"].unit == "MW"


def test_folders_that_hold_no_completed_run_end_with_one_line(capsys, completed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_refused(start_from(capsys, tmp_path / "nowhere", out), out, "nowhere: is no folder")
    without = shutil.copytree(completed, tmp_path / "without")
    (without / "summary.json").write_text("{", encoding="utf-8")
    check_refused(start_from(capsys, without, out), out, "summary.json: cannot be read")
    (without / "summary.json").unlink()
    check_refused(start_from(capsys, without, out), out, "summary.json: is not there, so the run is not complete")
    without = spoilt(completed, tmp_path / "boundary")
    (without / "boundary.h5").unlink()
    check_refused(start_from(capsys, without, out), out, "boundary.h5: is not there")
    check_refused(tieline(capsys, "run", BUNDLED_CASE, "--shift", "1", "--out", str(out)), out, "add --warm-start DIR")


def test_a_bad_start_ends_all_ranks_with_one_line(mpirun, completed: Path, tmp_path: Path) -> None:
    former_run = spoilt(completed, tmp_path / "former", step_minutes=15)
    arguments = ["run", BUNDLED_CASE, "--warm-start", str(former_run), "--out", str(tmp_path / "out")]
    done = mpirun(3, "-m", "admm", *arguments)
    check_refused(Ended(done.returncode, done.stdout, done.stderr.strip()), tmp_path / "out", "step_minutes is 15")
