"""Profiles are cut to the horizon, averaged to its step, and refused where they do not cover it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admm import InputError
from networks.profiles import Profiles
from subproblems.horizon import Horizon
from tests.tolerances import EXACT

START = datetime(2024, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def table(path: Path, values, minutes: int = 15, start: datetime = START, name: str = "load_kw") -> Path:
    """A file of one column, a row every so many minutes."""
    rows = [f"{start + k * minutes * MINUTE:%Y-%m-%dT%H:%MZ},{value}" for k, value in enumerate(values)]
    path.write_text("\n".join([f"time_utc,{name}", *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path, periods: int, step: int, start: datetime = START) -> np.ndarray:
    return Profiles([path], Horizon(start, periods, step)).series("load_kw")


def test_a_finer_file_is_averaged(tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv", [1, 2, 3, 6, 10, 10, 20, 20])
    assert read(path, 2, 60) == pytest.approx([3.0, 15.0], abs=EXACT)
    assert read(path, 4, 30) == pytest.approx([1.5, 4.5, 10.0, 20.0], abs=EXACT)
    assert read(path, 8, 15) == pytest.approx([1, 2, 3, 6, 10, 10, 20, 20], abs=EXACT)


def test_only_the_rows_of_the_horizon_count(tmp_path: Path) -> None:
    """Rows before and after are passed over, even where they hold no number."""
    path = table(tmp_path / "load.csv", ["nan", 1, 2, "?", ""])
    assert read(path, 2, 15, START + 15 * MINUTE) == pytest.approx([1.0, 2.0], abs=EXACT)


def test_the_order_of_rows_does_not_count(tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv", [1, 2, 3, 4])
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    assert read(path, 4, 15) == pytest.approx([1, 2, 3, 4], abs=EXACT)


def test_seconds_offsets_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_bytes(b"\xef\xbb\xbftime_utc, load_kw\r\n2024-03-01T00:00:00+00:00, 5\r\n\r\n2024-03-01 01:00Z, 7\r\n")
    assert read(path, 2, 60) == pytest.approx([5.0, 7.0], abs=EXACT)


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12),
    minutes=st.sampled_from([5, 10, 15, 30]),
    skipped=st.integers(0, 2),
)
def test_an_average_keeps_the_energy(tmp_path_factory, values, minutes: int, skipped: int) -> None:
    """Sum of value x time is that of the file's own rows in the horizon."""
    path = table(tmp_path_factory.mktemp("profiles") / "load.csv", values, minutes)
    first, per_hour = skipped * 60 // minutes, 60 // minutes
    periods = (12 - first) // per_hour
    if periods < 1:
        return
    found = read(path, periods, 60, START + skipped * 60 * MINUTE)
    inside = values[first : first + periods * per_hour]
    assert found.sum() * 60 == pytest.approx(sum(inside) * minutes, rel=EXACT, abs=EXACT * 1e6)


def test_a_number_holds_for_all_periods(tmp_path: Path) -> None:
    profiles = Profiles([], Horizon(START, 3, 60))
    assert profiles.series(0.25) == pytest.approx([0.25] * 3, abs=EXACT)
    with pytest.raises(InputError, match="no column 'load_kw' in any file; columns: none"):
        profiles.series("load_kw")


def test_private_columns_stay_with_their_agent(tmp_path: Path) -> None:
    public = Profiles([table(tmp_path / "public.csv", [1, 2], 60, name="sun_pu")], Horizon(START, 2, 60))
    own = public.with_file(table(tmp_path / "own.csv", [3, 4], 60))
    assert own.series("load_kw") == pytest.approx([3, 4], abs=EXACT)
    assert own.series("sun_pu") == pytest.approx([1, 2], abs=EXACT)
    with pytest.raises(InputError, match=r"no column 'load_kw' in public\.csv"):
        public.series("load_kw")


def test_a_series_is_a_copy(tmp_path: Path) -> None:
    profiles = Profiles([table(tmp_path / "load.csv", [1, 2], 60)], Horizon(START, 2, 60))
    profiles.series("load_kw")[:] = 9
    assert profiles.series("load_kw") == pytest.approx([1, 2], abs=EXACT)


@pytest.mark.parametrize(
    ("values", "minutes", "periods", "step", "words"),
    [
        ([1, 2], 60, 3, 60, "no row for 2024-03-01T02:00Z, expected one every 60 minutes up to 2024-03-01T03:00Z"),
        ([1, 2, 3], 15, 1, 60, "no row for 2024-03-01T00:45Z"),
        ([1, 2], 60, 8, 15, "every 60 minutes, which does not fit the horizon's step of 15 minutes"),
        ([1, 2, 3, 4], 20, 2, 30, "every 20 minutes, which does not fit"),
        ([1, "x"], 60, 2, 60, "line 3: load_kw is 'x', expected a finite number"),
        ([1, "inf"], 60, 2, 60, "line 3: load_kw is 'inf'"),
    ],
)
def test_what_does_not_cover_the_horizon_is_refused(values, minutes, periods, step, words, tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv", values, minutes)
    with pytest.raises(InputError, match=words) as refused:
        read(path, periods, step)
    assert str(refused.value).startswith(str(path))


def test_a_row_off_the_step_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv", [1, 2, 3, 4], 10)
    text = path.read_text() + "2024-03-01T00:35Z,9\n2024-03-01T00:50Z,4\n2024-03-01T00:40Z,4\n"
    path.write_text(text.replace("2024-03-01T00:40Z,4\n", "", 1))
    with pytest.raises(InputError, match="5 minutes"):
        read(path, 1, 60)


def test_a_table_with_semicolons_is_told_to_use_commas(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("time_utc;load_kw\n2016-01-14T00:00Z;3\n")
    with pytest.raises(InputError, match="separate columns by commas"):
        Profiles([path], Horizon(START, 1, 60))


@pytest.mark.parametrize("sky", ["sunny", "", "nan", "1e300", '"a, b"', "2024-03-01"])
def test_only_columns_that_are_named_need_be_numbers(sky: str, tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text(f"time_utc,load_kw,sky,sky,\n2024-03-01T00:00Z,1,0,{sky},\n2024-03-01T01:00Z,2,{sky},0,x\n")
    profiles = Profiles([path], Horizon(START, 2, 60))
    assert profiles.series("load_kw") == pytest.approx([1, 2], abs=EXACT)
    with pytest.raises(InputError, match=r"load\.csv: two columns are called 'sky'"):
        profiles.series("sky")


def test_a_named_column_of_text_is_refused_with_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("time_utc,load_kw,sky\n2024-03-01T00:00Z,1,2\n2024-03-01T01:00Z,2,rain\n")
    profiles = Profiles([path], Horizon(START, 2, 60))
    with pytest.raises(InputError, match=r"load\.csv: line 3: sky is 'rain', expected a finite number"):
        profiles.series("sky")


def test_a_column_of_two_files_is_refused_where_it_is_named(tmp_path: Path) -> None:
    files = [table(tmp_path / name, [1, 2], 60) for name in ("a.csv", "b.csv")]
    profiles = Profiles(files, Horizon(START, 2, 60))
    with pytest.raises(InputError, match=r"b\.csv: column 'load_kw' is also in .*a\.csv; give it another name"):
        profiles.series("load_kw")
    public = Profiles(files[:1], Horizon(START, 2, 60))
    assert public.series("load_kw").sum() == 3
    with pytest.raises(InputError, match="is also in"):
        public.with_file(files[1]).series("load_kw")


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        ("2024-03-01 00:00", "is not in UTC; expected a time ending in Z"),
        ("2024-03-01T01:00+01:00", "is not in UTC"),
        ("01.03.2024 00:00", "is no time; expected one like 2016-01-14T00:00Z"),
        ("2024-02-30T00:00Z", "is no time"),
        ("1709251200", "is no time|is not in UTC"),
        ("", "time_utc is empty"),
        ("9999-12-31T23:00Z", "has no row for 2024-03-01T00:00Z"),
        ("0001-01-01T00:00Z", "has no row for 2024-03-01T00:00Z"),
    ],
)
def test_times_that_are_none_of_the_horizon_are_refused(stamp: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text(f"time_utc,load_kw\n{stamp},1\n")
    with pytest.raises(InputError, match=words) as refused:
        Profiles([path], Horizon(START, 1, 60))
    assert str(path) in str(refused.value)
