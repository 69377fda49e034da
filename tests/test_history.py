"""The HDF5 files, read back with h5py alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import admm
from admm.history import COLUMNS, FLUSH_EVERY, HistoryWriter, write_boundary, write_private
from tests.small_problems import pair, triangle

CONTRACT = {"primal_residual", "dual_residual", "primal_tolerance", "dual_tolerance", "penalty", "seconds"}


def _progress(iteration: int, objective_eur: float | None = 12.5) -> admm.Progress:
    first = pair().solve(max_iterations=1).history[0]
    return replace(first, iteration=iteration, objective_eur=objective_eur, seconds=0.1 * iteration)


def test_one_row_an_iteration_with_units(tmp_path: Path) -> None:
    path = tmp_path / "history.h5"
    with HistoryWriter(path) as writer:
        result = pair().solve(callback=writer.append)
    with h5py.File(path) as file:
        group = file["iteration"]
        assert CONTRACT <= set(group) == set(COLUMNS)
        assert all(data.shape == (result.iterations,) and data.attrs["unit"] for data in group.values())
        assert group["primal_residual"][:].tolist() == [p.residuals.primal for p in result.history]
        assert group["dual_tolerance"][:].tolist() == [p.residuals.dual_tolerance for p in result.history]
        assert group["penalty"][:].tolist() == [p.penalty for p in result.history]
        assert group["objective_eur"][-1] == result.objective
        assert group["seconds"].attrs["unit"] == "s"


def test_an_unknown_objective_is_nan(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "history.h5") as writer:
        writer.append(_progress(1, objective_eur=None))
    with h5py.File(tmp_path / "history.h5") as file:
        assert np.isnan(file["iteration/objective_eur"][0])


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from tests.test_history import _progress
from admm.history import HistoryWriter
writer = HistoryWriter(sys.argv[1])
row = _progress(1)
for iteration in range(1, 46):
    writer.append(type(row)(**{**vars(row), "iteration": iteration}))
os._exit(9)
"""


def test_a_killed_run_leaves_a_readable_history(tmp_path: Path) -> None:
    path, root = tmp_path / "history.h5", Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(root)], check=False)
    assert done.returncode == 9
    with h5py.File(path) as file:
        assert file["iteration/primal_residual"].shape == (45 // FLUSH_EVERY * FLUSH_EVERY,)


def test_wrong_rows_and_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "history.h5"
    with HistoryWriter(path) as writer:
        writer.append(_progress(1))
        with pytest.raises(admm.InputError, match="got iteration 3, expected 2"):
            writer.append(_progress(3))
    with pytest.raises(admm.InputError, match="cannot be written"):
        HistoryWriter(tmp_path / "nowhere" / "history.h5")


def test_boundary_by_coupling_and_quantity_with_unit_and_sign(tmp_path: Path) -> None:
    result = triangle().solve()
    write_boundary(tmp_path / "boundary.h5", result.boundary, {"p_mw": "positive: towards the upper agent"})
    with h5py.File(tmp_path / "boundary.h5") as file:
        assert set(file) == {"ab", "bc", "ca"}
        for name in file:
            group, found = file[name]["p_mw"], result.boundary[name]["p_mw"]
            assert all(np.array_equal(group[key][:], getattr(found, key)) for key in ("lower", "upper", "price"))
            assert {group[key].attrs["unit"] for key in ("lower", "upper")} == {"MW"}
            assert group["price"].attrs["unit"] == "EUR/MW and period"
            assert group["lower"].attrs["sign"] == "positive: towards the upper agent"
            assert "pays" in group["price"].attrs["sign"]
    assert [p.name for p in tmp_path.iterdir()] == ["boundary.h5"]


def test_private_schedule_by_device_and_variable(tmp_path: Path) -> None:
    path = tmp_path / "agent.h5"
    values = {"battery.charge_kw": np.array([1.0, 2.0]), "ev.fleet.energy_kwh": np.ones(1), "import_kw": np.zeros(2)}
    units = {"battery.charge_kw": "kW", "ev.fleet.energy_kwh": "kWh", "import_kw": "kW"}
    write_private(path, values, units, objective_eur=4.5)
    with h5py.File(path) as file:
        assert file["battery/charge_kw"][:].tolist() == [1.0, 2.0]
        assert file["ev.fleet/energy_kwh"].attrs["unit"] == "kWh"
        assert file["model/import_kw"].shape == (2,)
        assert (file["objective_eur"][()], file["objective_eur"].attrs["unit"]) == (4.5, "EUR")


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "agent.h5"
    write_private(path, {"a.x": np.zeros(1)}, {"a.x": "kW"}, None)
    before = path.read_bytes()
    with pytest.raises(admm.InputError, match="'b.y' has no unit"):
        write_private(path, {"a.x": np.ones(1), "b.y": np.ones(1)}, {"a.x": "kW"}, None)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["agent.h5"]
