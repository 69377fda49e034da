"""The main case under mpirun: the same numbers whatever the number of ranks, and privacy by rank."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.case_tools import BUNDLED_CASE, copy_case, edit
from tests.market_tools import small_case
from tests.tolerances import EXACT

PROGRAM = str(Path(__file__).with_name("traced_run.py"))
AGENTS = 12
"""Ten communities and two operators."""
ALL_RANKS = (2, 3, 6, 11, AGENTS, AGENTS + 1)
OF_THE_RUN = ("bytes_exchanged", "wall_seconds", "ranks")
"""Keys of summary.json that depend on the number of ranks, besides all seconds and milliseconds."""


@pytest.fixture(scope="module")
def run_on(mpirun, tmp_path_factory):
    """run_on(ranks): the output folder of the main case on so many ranks, and what each rank opened; run once."""

    @cache
    def run(ranks: int) -> tuple[Path, list[list[str]]]:
        out, traces = tmp_path_factory.mktemp("runs") / f"on-{ranks}", tmp_path_factory.mktemp("traces")
        done = mpirun(ranks, PROGRAM, str(traces), "run", BUNDLED_CASE, "--out", str(out))
        assert done.returncode == 0, done.stderr
        return out, [json.loads(trace.read_text(encoding="utf-8")) for trace in sorted(traces.iterdir())]

    return run


APART = """
import sys
from mpi4py import MPI
from admm.cli import main
folder, *arguments = sys.argv[1:]
sys.exit(main([*arguments, "--out", f"{folder}/rank-{MPI.COMM_WORLD.rank}"]))
"""


def datasets(path: Path) -> dict[str, np.ndarray]:
    """All datasets of an HDF5 file by their paths."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def lasting(out: Path) -> dict[str, Any]:
    """What summary.json says that must not depend on the number of ranks."""
    summary = json.loads((out / "summary.json").read_text())
    return {k: v for k, v in summary.items() if k not in OF_THE_RUN and "seconds" not in k and "solve_ms" not in k}


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """1e-9 of each dataset's largest value."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=EXACT, atol=EXACT * size, err_msg=name)


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_the_result_is_that_of_one_rank(run_on, ranks: int) -> None:
    (alone, _), (out, opened) = run_on(1), run_on(ranks)
    assert len(opened) == ranks == json.loads((out / "summary.json").read_text())["ranks"]
    expected, found = lasting(alone), lasting(out)
    assert expected["converged"] and found["iterations"] == expected["iterations"]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=EXACT) if isinstance(value, float) else value), key
    check_same(datasets(out / "boundary.h5"), datasets(alone / "boundary.h5"))
    rows, expected_rows = datasets(out / "history.h5"), datasets(alone / "history.h5")
    for name in ("primal_residual", "dual_residual", "penalty", "objective_eur"):
        check_same({name: rows[f"iteration/{name}"]}, {name: expected_rows[f"iteration/{name}"]})
    files = sorted(path.name for path in (alone / "private").iterdir())
    assert len(files) == AGENTS and files == sorted(path.name for path in (out / "private").iterdir())
    for file in files:
        check_same(datasets(out / "private" / file), datasets(alone / "private" / file))


@pytest.mark.parametrize("ranks", ALL_RANKS)
def test_each_private_file_is_opened_by_one_rank_only(run_on, ranks: int) -> None:
    """Its owner's, together with the agent's profiles; with more than one rank none opens all of them."""
    (_, (alone,)), (_, opened) = run_on(1), run_on(ranks)
    assert len(alone) == 2 * (AGENTS - 2)
    assert sorted(name for names in opened for name in names) == alone
    for names in opened:
        tables, profiles = ({Path(name).stem for name in names if name.endswith(end)} for end in (".toml", ".csv"))
        assert tables == profiles and len(names) < len(alone)


@pytest.mark.parametrize("marked", ["987654", "-987654"])
def test_what_is_wrong_with_a_private_file_is_said_by_its_owner_alone(mpirun, tmp_path: Path, marked: str) -> None:
    case, out = copy_case(tmp_path), tmp_path / "out"
    edit("agents/ec09-hotel.toml", "import_limit_kw = 240.0", f"import_limit_kw = {marked}.321")(case)
    done = mpirun(3, "-m", "admm", "run", str(case), "--out", str(out), "--audit")
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    full, told = sorted(lines, key=lambda line: "its own rank says" in line)
    assert "ec09-hotel.toml: " in full and marked in full
    assert told == (
        "tieline: agent 'ec09-hotel': agents/ec09-hotel.toml or its profiles are not valid, see what its own rank says"
    )
    sent = [file.read_text() for file in out.rglob("*") if file.is_file()]
    assert len(sent) == 3 and marked not in "".join(sent) and any("ec09-hotel" in text for text in sent)


def test_an_infeasible_agent_ends_all_ranks_and_an_older_result_stays(mpirun, tmp_path: Path) -> None:
    case, out = copy_case(tmp_path), tmp_path / "out"
    (out / "private").mkdir(parents=True)
    older = [out / "summary.json", *(out / "private" / f"{path.stem}.h5" for path in (case / "agents").glob("*.toml"))]
    for file in older:
        file.write_text("older")
    edit("agents/ec09-hotel.toml", "import_limit_kw = 240.0", "import_limit_kw = 8.0")(case)
    done = mpirun(3, "-m", "admm", "run", str(case), "--out", str(out))
    assert done.returncode == 4, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    names, numbers = sorted(lines, key=lambda line: "at most 8 kW" in line)
    assert all("agent 'ec09-hotel' is infeasible" in line for line in (names, numbers)), done.stderr
    assert "at most 8 kW" not in names and "at most 8 kW" in numbers  # only the agent's own rank, which is not rank 0
    assert sorted(path for path in out.rglob("*.*")) == sorted(older)
    assert all(file.read_text() == "older" for file in older)


def test_ranks_without_a_common_folder_keep_their_own(mpirun, tmp_path: Path) -> None:
    """As on hosts with disks of their own: each makes what it needs."""
    done = mpirun(2, "-c", APART, str(tmp_path), "run", str(small_case(tmp_path)))
    assert done.returncode == 0, done.stderr
    first, second = ({path.name for path in (tmp_path / f"rank-{rank}").rglob("*.h5")} for rank in range(2))
    assert "boundary.h5" in first and second and not first & second
