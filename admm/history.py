"""The HDF5 files of a run: history.h5, boundary.h5 and private/AGENT.h5. Each is written by one rank.

Every array says what its rows and columns are. `dims` holds the names of its dimensions, such as "time_utc" and
"node". The attribute of that name holds the time of each row (start of the period, UTC) or the name of each column.

A file that is there is whole; history.h5 is written again and again while the run lasts, and after a kill has all rows
up to the last time.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from admm.errors import InputError
from admm.interfaces import Names
from admm.labels import label
from admm.ownership import ORIGIN
from admm.state import BoundaryResult, Progress
from admm.values import is_finite
from admm.whole_file import CLOSED, OPEN, write_whole

FLUSH_EVERY = 20
"""Rows between two writes."""
ROWS = "iteration"
"""What the rows of history.h5 are."""
COMPACT = ("v108", "v108")
"""Versions of HDF5 that can read a file: from 1.8 on, attributes may exceed 64 KB, as thousands of names do."""
LOWER_PAYS = "positive: the lower agent pays the upper one"
LOWER_TAKES = "positive: the lower agent takes from the upper one"


class Column(NamedTuple):
    """One dataset of /iteration: its unit, what it is, and how a Progress gives it."""

    unit: str
    description: str
    value: Callable[[Progress], float]


COLUMNS: dict[str, Column] = {
    "primal_residual": Column("1", "2-norm of (lower - upper) / scale", lambda p: p.residuals.primal),
    "dual_residual": Column("1", "2-norm of the dual step / price scale", lambda p: p.residuals.dual),
    "primal_tolerance": Column("1", "what primal_residual is held against", lambda p: p.residuals.primal_tolerance),
    "dual_tolerance": Column("1", "what dual_residual is held against", lambda p: p.residuals.dual_tolerance),
    "mismatch": Column("1", "largest |lower - upper| / scale", lambda p: p.residuals.mismatch),
    "objective_error": Column("1", "estimated, as a share of the turnover", lambda p: p.residuals.objective_error),
    "penalty": Column("1", "geometric mean, in units of price scale / scale", lambda p: p.penalty),
    "objective_eur": Column("EUR", "sum of the agents' costs, NaN where unknown", lambda p: _number(p.objective_eur)),
    "model_error": Column("1", "largest model error / the agent's tolerance", lambda p: p.model_error),
    "accuracy": Column("1", "accuracy asked of the agents, as a share of scale", lambda p: p.accuracy),
    "inner_iterations": Column("1", "iterations of all agents' solvers", lambda p: p.inner_iterations),
    "seconds": Column("s", "wall time since the start of the run", lambda p: p.seconds),
}


class HistoryWriter:
    """Appends one row an iteration to /iteration/*: row i is iteration i + 1."""

    def __init__(self, path: str | os.PathLike[str], run_id: str = "") -> None:
        self._path, self._rows, self._written, self._run_id = Path(path), [], -1, run_id
        self._flush()

    def append(self, progress: Progress) -> None:
        """Add the row of one iteration; rows must come in order."""
        if progress.iteration != len(self._rows) + 1:
            raise InputError(f"history: got iteration {progress.iteration}, expected {len(self._rows) + 1}")
        self._rows.append([column.value(progress) for column in COLUMNS.values()])
        if len(self._rows) - self._written >= FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        """A whole new file: a row is a hundred bytes."""
        rows = np.array(self._rows, dtype=float).reshape(-1, len(COLUMNS))
        with new_file(self._path, run_id=self._run_id) as file:
            for (name, column), values in zip(COLUMNS.items(), rows.T, strict=True):
                data = file.create_dataset(f"iteration/{name}", data=values)
                data.attrs["unit"], data.attrs["description"] = column.unit, column.description
                data.attrs["rows"], data.dims[0].label = "iterations, from 1", ROWS
        self._written = len(self._rows)

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        if self._written < len(self._rows):
            self._flush()

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_boundary(
    path: str | os.PathLike[str],
    boundary: Mapping[str, Mapping[str, BoundaryResult]],
    sign_words: Mapping[str, str],
    time_utc: Sequence[str] = (),
    *,
    run_id: str = "",
) -> None:
    """Write /COUPLING/QUANTITY/{lower, upper, price}, arrays (periods,), each with its unit and sign.

    The group's attributes: `scale`, a nominal size, the last `penalty`, (periods,), where there was one, and the `unit`
    as text of fixed length for `read_boundary`: HDF5 may never come back from a text of variable length, which is
    what users get at the arrays, in a damaged file.

    boundary: {coupling: {quantity: values}}, as `Result.boundary` has it.
    sign_words: {quantity: what a positive value means}; by default, that the lower agent takes it.
    time_utc: the start of each period, ISO text; arrays have no times without.
    """
    with new_file(Path(path), run_id=run_id) as file:
        for coupling, quantities in boundary.items():
            for quantity, values in quantities.items():
                sign = sign_words.get(quantity, LOWER_TAKES)
                group = file.create_group(f"{coupling}/{quantity}")
                _write_quantity(group, values, sign)
                for data in group.values():
                    label(data, time_utc)


def read_boundary(path: str | os.PathLike[str], periods: int) -> dict[str, dict[str, BoundaryResult]]:
    """What `write_boundary` wrote of a horizon of so many periods: {coupling: {quantity: values}}.

    Raises InputError, naming file and array, for a file that is not there, or is none of these, or is damaged.
    """
    with _readable(Path(path)) as file:
        return {
            coupling: {
                quantity: _read_quantity(_subgroup(_subgroup(file, coupling), quantity), periods)
                for quantity in _subgroup(file, coupling)
            }
            for coupling in file
        }


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What stands there itself: a link could lead to another file, and one that is a pipe would never open."""
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def _subgroup(group: h5py.Group, name: str) -> h5py.Group:
    found = _member(group, name)
    if not isinstance(found, h5py.Group):
        where = f"{group.file.filename}: {group.name.rstrip('/')}/{name}"
        raise InputError(f"{where} is no group, expected /COUPLING/QUANTITY/{{lower, upper, price}}")
    return found


def _read_quantity(group: h5py.Group, periods: int) -> BoundaryResult:
    arrays = {name: _read_array(group, name, periods) for name in ("lower", "upper", "price")}
    return BoundaryResult(
        **arrays, unit=_read_unit(group), scale=_read_scale(group), penalty=_read_penalty(group, periods)
    )


def _attribute(group: h5py.Group, name: str, kinds: str) -> Any:
    """The value of an attribute, None where there is none; InputError unless its type is of these numpy kinds.

    The type is looked at first: reading one of variable length may never come back.
    """
    if name not in group.attrs:
        return None
    found = group.attrs.get_id(name).dtype
    if found.kind not in kinds:
        expected = "text of fixed length" if kinds == "S" else "numbers"
        raise InputError(
            f"{group.file.filename}: {group.name}, attribute {name}, has type {found}, expected {expected}"
        )
    return group.attrs[name]


def _read_unit(group: h5py.Group) -> str:
    unit = _attribute(group, "unit", "S")
    if not isinstance(unit, bytes):
        where = f"{group.file.filename}: {group.name} has the unit {unit!r}"
        raise InputError(f"{where}, expected a text of fixed length such as MW; run the former run again")
    return unit.decode()


def _read_array(group: h5py.Group, name: str, periods: int) -> np.ndarray:
    where, found = f"{group.file.filename}: {group.name}/{name}", _member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where} is not there, expected an array of {periods} numbers")
    if found.shape != (periods,) or found.dtype.kind not in "fiu":
        what = f"{found.shape} of type {found.dtype}"
        raise InputError(f"{where} has shape {what}, expected {periods} numbers, as summary.json says")
    if found.chunks or found.external or found.is_virtual:  # unpacked it may be huge, or lie in another file
        raise InputError(f"{where} is stored in pieces or elsewhere, expected a plain array as a run writes it")
    values = found[:].astype(float)
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise InputError(f"{where} is {values[at]} in period {at}, expected finite numbers")
    return values


def _read_scale(group: h5py.Group) -> float:
    scale = _attribute(group, "scale", "fiu")
    scale = 1.0 if scale is None else scale
    if not is_finite(scale) or scale <= 0:
        raise InputError(f"{group.file.filename}: {group.name} has the scale {scale!r}, expected a number above 0")
    return float(scale)


def _read_penalty(group: h5py.Group, periods: int) -> np.ndarray | None:
    found = _attribute(group, "penalty", "fiu")
    if found is None:
        return None
    penalty = np.asarray(found)
    good = penalty.shape == (periods,) and penalty.dtype.kind in "fiu"
    if not good or not (np.isfinite(penalty) & (penalty > 0)).all():
        where = f"{group.file.filename}: {group.name}, attribute penalty,"
        raise InputError(f"{where} is {penalty!r}, expected {periods} numbers above 0")
    return penalty.astype(float)


def _write_quantity(group: h5py.Group, values: BoundaryResult, sign: str) -> None:
    _write(group, "lower", values.lower, values.unit, sign=sign)
    _write(group, "upper", values.upper, values.unit, sign=sign)
    _write(group, "price", values.price, f"EUR/{values.unit} and period", sign=LOWER_PAYS)
    if values.penalty is not None:
        group.attrs["penalty"] = values.penalty
    group.attrs["scale"] = float(values.scale)
    group.attrs["unit"] = np.bytes_(values.unit.encode())


def write_private(
    path: str | os.PathLike[str],
    values: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    objective_eur: float | None,
    time_utc: Sequence[str] = (),
    names: Mapping[str, Names] | None = None,
    *,
    run_id: str = "",
) -> None:
    """Write one agent's schedule: block "battery.charge_kw" goes to /battery/charge_kw, with its unit.

    values: {block: array (periods,) or (periods, elements)}. A block without a device's name goes to /model.
    units: {block: unit}. objective_eur: the agent's own cost, a scalar; NaN where None.
    time_utc: the start of each period, ISO text. A shorter array has one value for each of the first periods.
    names: {block: what its columns are}; of an array (periods,) what it belongs to, by default the device.
    The file is its user's only.
    """
    with new_file(Path(path), COMPACT, run_id=run_id, mode=CLOSED) as file:
        for block, array in values.items():
            if block not in units:
                raise InputError(f"{path}: block '{block}' has no unit, expected one for each of its blocks")
            device, _, variable = block.rpartition(".")
            data = _write(file.require_group(device or "model"), variable, array, units[block])
            label(data, time_utc, (names or {}).get(block, Names("device", (device,)) if device else None))
        _write(file, "objective_eur", np.float64(_number(objective_eur)), "EUR")


def _write(group: h5py.Group, name: str, array: np.ndarray, unit: str, **attributes: str) -> h5py.Dataset:
    data = group.create_dataset(name, data=np.asarray(array, dtype=float))
    data.attrs.update({"unit": unit, **attributes})
    return data


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


@contextmanager
def new_file(
    path: Path, versions: tuple[str, str] | None = None, *, run_id: str = "", mode: int = OPEN
) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name only when it is complete and on the disk.

    versions: of the format, see `h5py.File`; by default what all can read. run_id: of the run that writes it.
    """
    content = io.BytesIO()
    with h5py.File(content, "w", libver=versions) as file:
        put_run_id(file, run_id)
        yield file
    write_whole(path, content.getvalue(), mode)


def put_run_id(file: h5py.File, run_id: str) -> None:
    """The run id for people, and as `admm.ownership` looks for it."""
    if run_id:
        file.attrs["run_id"] = run_id
        file.attrs["origin"] = np.bytes_(f"{ORIGIN}{run_id}".encode())


@contextmanager
def _readable(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise InputError(f"{path}: is not there; choose the output folder of a completed run")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # what h5py raises for damaged files
        raise InputError(f"{path}: cannot be read ({error}); choose the output folder of a completed run") from None
