"""Every study of the bundled case is a valid case whose communities have just the freedom that it is about."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from admm import InputError
from benchmarks.study_cases import KINDS, STUDIES, write_study
from networks.case import load_case
from networks.case_file import BUNDLED
from subproblems.devices import Device
from tests.case_tools import BUNDLED_CASE, copy_case, edit, tieline
from tests.tolerances import EXACT

CASE = BUNDLED / BUNDLED_CASE


def written(study: str, to: Path) -> dict[str, list[Device]]:
    case = load_case(str(write_study(CASE, study, to / study)))
    return {name: case.devices(name) for name in case.communities}


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_is_a_valid_case(study: str, tmp_path: Path, capsys) -> None:
    ended = tieline(capsys, "check", write_study(CASE, study, tmp_path / study))
    assert ended.code == 0, ended.errors


def test_a_study_without_flexibility_converges(tmp_path: Path, capsys) -> None:
    ended = tieline(capsys, "run", write_study(CASE, "none", tmp_path / "none"), "--out", tmp_path / "out")
    assert ended.code == 0, ended.out


@pytest.mark.parametrize("study", STUDIES)
def test_only_what_the_study_controls_is_free(study: str, tmp_path: Path) -> None:
    kinds = {kind.model_fields["kind"].default: kind for kind in KINDS}
    before = {name: load_case(BUNDLED_CASE).devices(name) for name in load_case(BUNDLED_CASE).communities}
    for name, devices in written(study, tmp_path).items():
        after = {device.name: device for device in devices}
        for device in before[name]:
            free = kinds[device.kind] in STUDIES[study]
            if device.kind == "load" or (free and not (study == "ev" and device.kind == "ev_fleet")):
                assert after[device.name] == device
            elif device.kind == "battery":
                assert device.name not in after
            elif not free:
                assert not after[device.name].flexible


def test_cars_and_shiftable_loads_without_control_have_no_room(tmp_path: Path) -> None:
    case, seen = load_case(str(write_study(CASE, "none", tmp_path / "none"))), 0
    for name in case.communities:
        qp = case.community_program(name)
        for block in qp.rows:
            if block.name.startswith(("cars", "laundry", "process")) and block.name.endswith("power limits"):
                assert qp.l[block.entries] == pytest.approx(qp.u[block.entries], abs=EXACT), block.name
                assert qp.u[block.entries].max() > 0
                seen += 1
    assert seen == 12


def test_cars_without_control_charge_a_fifth_of_their_chargers_at_once_or_what_they_need(tmp_path: Path) -> None:
    """Cars: 11 kW / 5. Vans at night need 47 kWh in 12 h, those at noon 30 kWh in the 2 whole hours of their stay."""
    classes = {each.name: each for each in written("none", tmp_path)["ec05-depot"][-1].classes}
    assert classes["night-vans"].charger_kw == pytest.approx(22 / 5, abs=EXACT)
    assert classes["noon-vans"].charger_kw == pytest.approx(30 / (0.95 * 2), abs=EXACT)


def test_charging_only_leaves_out_discharging(tmp_path: Path) -> None:
    for study, discharge_kw in (("ev", 0.0), ("ev-v2g", 11.0)):
        fleet = next(d for d in written(study, tmp_path)["ec02-homes-cars"] if d.kind == "ev_fleet")
        assert [each.discharge_kw for each in fleet.classes] == [discharge_kw, 0.0]
        assert fleet.charging == "controlled" and fleet.flexible


def test_thermal_devices_without_control_hold_their_set_point_and_have_no_tank(tmp_path: Path) -> None:
    devices = {device.name: device for device in written("none", tmp_path)["ec09-hotel"]}
    rooms = devices["rooms"]
    assert rooms.min_temperature_degc == rooms.max_temperature_degc == rooms.initial_temperature_degc == 21.5
    assert devices["heatpump"].tank_kwh == 0 and devices["laundry"].shifting == "at_once"


def test_current_limits_take_the_factor_and_nothing_else_changes(tmp_path: Path) -> None:
    write_study(CASE, "all", tmp_path / "all", current_limit_factor=1.3)
    before, after = (tomllib.loads((folder / "case.toml").read_text()) for folder in (CASE, tmp_path / "all"))
    assert after["network"][1].pop("current_limit_scale") == pytest.approx(0.65, abs=EXACT)
    del before["network"][1]["current_limit_scale"]
    assert before == after
    for file in (CASE / "agents").iterdir():
        assert (tmp_path / "all" / "agents" / file.name).read_bytes() == file.read_bytes()


def test_what_cannot_be_studied_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    heat = 'kind = "gas_boiler"\nname = "boiler"\nmax_heat_kw = 5.0\n\n[[devices]]\nkind = "load"'
    spoilt = copy_case(tmp_path)
    edit("agents/ec01-homes.toml", 'kind = "load"', heat)(spoilt)
    for case, study, factor, words in (
        (CASE, "battery", 1.0, "no study 'battery'; did you mean 'batteries'"),
        (BUNDLED / "feeder118-gas65", "none", 1.0, "is a hub; studies are of communities only"),
        (spoilt, "none", 1.0, "gas_boiler 'boiler': no study knows this kind"),
        (CASE, "none", -1.0, "current_limit_factor is -1.0, expected a number above 0"),
    ):
        with pytest.raises(InputError, match=words):
            write_study(case, study, out, factor)
        assert not out.exists()
    with pytest.raises(InputError, match="is there already"):
        write_study(CASE, "none", spoilt)
