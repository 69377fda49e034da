"""Reading files: what is missing, unreadable or no text, and tables with a message for each mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from admm import InputError
from networks.tables import read_table
from networks.validation import parse, read_text, read_toml
from subproblems.devices.attributes import Attributes, number


class Wheel(Attributes):
    label: ClassVar[str] = "wheel"
    name: str
    radius_m: float = number("radius", "m", gt=0)


class Cart(Attributes):
    label: ClassVar[str] = "cart"
    wheels: Annotated[list[Wheel], Field(min_length=1)]
    load_kg: float = number("load", "kg", 0.0, ge=0)


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for content in ("Wärme = 3\n".encode(), b"\xef\xbb\xbf" + "Wärme = 3\n".encode()):
        (tmp_path / "a.txt").write_bytes(content)
        assert read_text(tmp_path / "a.txt") == "Wärme = 3\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe3", "no UTF-8 text file .byte 0"),
        (b"a = \x00", "zero bytes"),
        ("ä".encode("latin-1"), "save it as UTF-8"),
        (b"a = " + b"[" * 100_000, "not valid TOML: nested too deeply"),
        (b"a = " + b"9" * 5000, "not valid TOML: .*thousands of digits"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as refused:
        read_toml(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_missing_files_get_a_suggestion_only_where_a_name_is_close(tmp_path: Path) -> None:
    (tmp_path / "ec01-homes.toml").touch()
    with pytest.raises(InputError, match=r"did you mean 'ec01-homes\.toml'\?"):
        read_text(tmp_path / "ec01-home.toml")
    with pytest.raises(InputError, match="check the name, or create it in"):
        read_text(tmp_path / "hub.toml")
    with pytest.raises(InputError, match="there is no folder"):
        read_text(tmp_path / "agents" / "hub.toml")


def test_what_might_never_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: is no file"):
            read_text(path)


def test_a_folder_or_a_broken_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    with pytest.raises(InputError, match="file not found"):
        read_text(tmp_path / "link")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path / "loop")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"wheels": []}, "cart.toml: cart: wheels is [], expected at least one entry"),
        ({"wheels": {}}, "cart.toml: cart: wheels is a table, expected a list"),
        ({"wheels": "two"}, "cart.toml: cart: wheels is 'two', expected a list"),
        ({"wheels": [3]}, "cart.toml: cart: entry 1 of wheels is 3, expected a table"),
        (
            {"wheels": [{"name": "left"}]},
            "cart.toml: cart: wheel 'left': key 'radius_m' is missing, expected: radius (m)",
        ),
        (
            {"wheels": [{"name": "left", "radius_cm": 30}]},
            "cart.toml: cart: wheel 'left': unknown key 'radius_cm'; did you mean 'radius_m'? (and 1 more",
        ),
        ({"wheels": [{"name": "left", "radius_m": 0}]}, "wheel 'left': radius_m is 0, expected greater than 0"),
        ({"wheels": [{"name": 3, "radius_m": 1}]}, "cart.toml: cart: wheel: name is 3, expected text"),
        ({"wheels": [{"name": "a", "radius_m": 1}], "load_kg": "3"}, "cart: load_kg is '3', expected a number"),
        ({"wheels": [{"name": "a", "radius_m": 1}], "load_kg": [1] * 99}, "cart: load_kg is a list, expected a number"),
        ({"self": 1}, "cart.toml: cart: unknown key 'self'; known are wheels, load_kg"),
        ({"load_kg": 1e300}, "cart: load_kg is 1e+300, expected a number of at most 1e+12 kg in size; check its unit"),
        ({"load_kg": -(10**400)}, "cart: load_kg is a number of hundreds of digits, expected a number of at most"),
        ({"wheels": [{"name": "a", "radius_m": 2**99}]}, "cart: wheel 'a': radius_m is 6.33825e+29, expected a number"),
    ],
)
def test_wrong_data_are_refused_in_words(data: dict, words: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(Cart, data, "cart.toml")
    assert words in str(refused.value)


def test_right_data_pass() -> None:
    cart = parse(Cart, {"wheels": [{"name": "left", "radius_m": 1}]}, "cart.toml")
    assert (cart.wheels[0].radius_m, cart.load_kg) == (1.0, 0.0)


def test_tables_are_read_by_column_name(tmp_path: Path) -> None:
    path = tmp_path / "bus.csv"
    path.write_text("bus, p_kw ,slack,note\nb1,3.5,1,x\n\nb2,-1e2,0,\n")
    rows = read_table(path, ["bus", "p_kw"])
    assert [(row.text("bus"), row.number("p_kw"), row.flag("slack")) for row in rows] == [
        ("b1", 3.5, True),
        ("b2", -100.0, False),
    ]
    assert [row.where for row in rows] == [f"{path}: line 2", f"{path}: line 4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 'bus' is missing in the header; found no columns"),
        ("bus,p\n1,2\n", "column 'p_kw' is missing in the header; found bus, p"),
        ("bus,p_kw,bus\n1,2,3\n", "two columns are called 'bus'"),
        ("bus,p_kw\n", "has no rows below its header"),
        ("bus,p_kw\n1,2,3\n", "line 2 has 3 cells, expected 2 as in the header; .* decimals with a point"),
        ("bus;p_kw\n1;2,5\n", "column 'bus' is missing in the header; found bus;p_kw; separate columns by commas"),
        ("bus\tp_kw\n1\t2\n", "separate columns by commas"),
        ("bus;p,kw\n1;2,5\n", "separate columns by commas"),
        ('bus,p_kw\n1,"2,5"\n', "line 2: p_kw is '2,5', expected a finite number; write decimals with a point"),
        ('bus,p_kw\n1,"2\n2,3\n', "is no CSV"),
        ("bus,p_kw,p_kw\n1,2,2\n", "two columns are called 'p_kw'"),
        ("bus,p_kw\n1,1_000\n", "p_kw is '1_000', expected a finite number"),
        ("bus,p_kw\n1,\u0663\n", "expected a finite number"),
        ("bus,p_kw\n1,5 kW\n", "p_kw is '5 kW'"),
        ("bus,p_kw\n1,1e400\n", "p_kw is '1e400', expected a finite number"),
        ("bus,p_kw\n1\n", "line 2 has 1 cells, expected 2"),
        ("bus,p_kw\n1,2\n1,\n", "line 3: p_kw is empty"),
        ("bus,p_kw\n1,nan\n", "line 2: p_kw is 'nan', expected a finite number"),
        ("bus,p_kw\n1,-1e30\n", "line 2: p_kw is '-1e30', expected a number of at most 1e.07 kW in size"),
        ("bus,p_kw\n1," + "9" * 200_000 + "\n", "line 2 is no CSV"),
    ],
)
def test_wrong_tables_are_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bus.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        [row.number("p_kw") for row in read_table(path, ["bus", "p_kw"])]
    assert str(refused.value).startswith(f"{path}: ")


def test_what_nobody_reads_may_be_anything(tmp_path: Path) -> None:
    """Columns without a name, blank rows, empty cells beyond the header, repeated names, texts: as spreadsheets leave
    them."""
    path = tmp_path / "bus.csv"
    path.write_bytes(b'\xef\xbb\xbfbus,"p_kw",note,note,,\r\nb1,"3.5","a, b",y,,\r\n,,,,,\r\nb2,-0,x,y,,,,\r\n')
    rows = read_table(path, ["bus", "p_kw"])
    assert [(row.text("bus"), row.number("p_kw")) for row in rows] == [("b1", 3.5), ("b2", 0.0)]
    with pytest.raises(InputError, match=r"bus\.csv: two columns are called 'note'"):
        rows[0].text("note")
