"""The market under mpirun: the same ledger whatever the number of ranks, private files by rank, one error for all."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import pytest

from tests.case_tools import edit
from tests.market_tools import CARS, HOMES, PERIODS, add_rule, small_case
from tests.test_mpi_case import PROGRAM
from tests.tolerances import EXACT

EUR = 1e-6
ALL_RANKS = (2, 4)
"""Besides 1. Four agents on four ranks: communities and operators have one each."""
AMOUNTS = ("quantity_mwh", "lower_pays_eur")
BAD_INPUT = 2


@pytest.fixture(scope="module")
def market_on(mpirun, tmp_path_factory):
    """market_on(ranks): the output folder of the small case on so many ranks, and what each opened; run once."""
    case = small_case(tmp_path_factory.mktemp("small"))
    add_rule("gate_minutes = 120")(case)

    @cache
    def run(ranks: int) -> tuple[Path, list[list[str]]]:
        out, traces = tmp_path_factory.mktemp("markets") / f"on-{ranks}", tmp_path_factory.mktemp("traces")
        done = mpirun(ranks, PROGRAM, str(traces), "market", str(case), "--out", str(out))
        assert done.returncode == 0, done.stderr
        return out, [json.loads(trace.read_text(encoding="utf-8")) for trace in sorted(traces.iterdir())]

    return run


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "settlement" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_the_ledger_is_that_of_one_rank(market_on, ranks: int) -> None:
    (alone, _), (out, opened) = market_on(1), market_on(ranks)
    assert len(opened) == ranks
    expected, found = rows(alone, "settlement"), rows(out, "settlement")
    assert len(expected) > 3 * 3 * PERIODS and len(found) == len(expected)
    for row, other in zip(expected, found, strict=True):
        assert {**row, **dict.fromkeys(AMOUNTS)} == {**other, **dict.fromkeys(AMOUNTS)}
        for key in AMOUNTS:
            assert float(other[key]) == pytest.approx(float(row[key]), rel=EXACT, abs=EUR), row
    gates, other_gates = ([(g["gate"], g["iterations"], g["status"]) for g in rows(o, "gates")] for o in (alone, out))
    assert other_gates == gates
    summaries = [json.loads((o / "settlement" / "summary.json").read_text()) for o in (alone, out)]
    for key in ("cost_eur", "day_ahead_cost_eur", "balancing_eur", "relief_eur", "inside_up_mwh", "short_mwh"):
        assert summaries[1][key] == pytest.approx(summaries[0][key], rel=EXACT, abs=EUR), key
    for stage in ("day-ahead", "intra-day"):
        files = sorted(path.name for path in (alone / stage / "private").iterdir())
        assert files == sorted(path.name for path in (out / stage / "private").iterdir())


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_each_private_file_is_opened_by_one_rank_only(market_on, ranks: int) -> None:
    """Through all stages and gates, and checks before them."""
    _, opened = market_on(ranks)
    files = [name for names in opened for name in names]
    assert sorted(files) == sorted(f"{name}{end}" for name in (HOMES, CARS) for end in (".toml", ".csv"))
    assert ranks < 4 or all(len({Path(name).stem for name in names}) <= 1 for names in opened)


def of_owner(errors: str) -> str:
    """What the owner of a bad private file says; the other line is what all others may know."""
    lines = [line for line in errors.splitlines() if line]
    full, told = sorted(lines, key=lambda line: "its own rank says" in line)
    assert told.startswith(f"tieline: agent '{CARS}': ")
    return full


def test_bad_private_input_ends_all_ranks(mpirun, tmp_path: Path) -> None:
    """On four ranks, rank 0 has no community."""
    case, out = small_case(tmp_path), tmp_path / "out"
    edit(f"agents/{CARS}.toml", "import_limit_kw = 2", "import_limit_kw = -2")(case)
    done = mpirun(4, "-m", "admm", "market", str(case), "--out", str(out))
    assert done.returncode == BAD_INPUT, done.stderr
    assert f"{CARS}.toml: community: import_limit_kw is -2" in of_owner(done.stderr)
    assert not out.exists()


def test_a_private_series_that_ends_at_a_gate_ends_all_ranks(mpirun, tmp_path: Path) -> None:
    """A share of the sun above 1 cannot be drawn: that shows at the first gate, on the owner's rank alone."""
    case = small_case(tmp_path)
    path = case / "agents" / f"{CARS}.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    at = lines[0].split(",").index("pv_pu_own")
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        cells[at] = "1.5"
        lines[number] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = mpirun(4, "-m", "admm", "market", str(case), "--out", str(tmp_path / "out"))
    assert done.returncode == BAD_INPUT, done.stderr
    assert f"series '{CARS}/pv_pu_own' is 1.5 in period 0" in of_owner(done.stderr)
    assert not (tmp_path / "out" / "settlement").exists()
