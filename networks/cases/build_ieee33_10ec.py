"""Writes the case `ieee33-10ec`: ten communities of different kinds on the 33-node feeder.

    python -m networks.cases.build_ieee33_10ec

Sizes are plausible, not measured. Profiles come from `source_profiles.csv` (see the case's README for
sources and licences); each community gets its own mix of them, shifted by some quarters of an hour.
"""

from __future__ import annotations

from pathlib import Path

from networks.cases.build_tools import (
    HEAT_MULTI,
    HEAT_SHOP,
    HEAT_SINGLE,
    HOME,
    OFFICE,
    SHOP,
    V2G,
    Site,
    battery,
    building,
    fleet,
    heat_pump,
    private_columns,
    pv,
    read_source,
    shiftable,
    site_toml,
    vehicles,
    write_csv,
)

FOLDER = Path(__file__).parent / "ieee33-10ec"
PUBLIC = {
    "temperature_degc": "temperature_degc",
    "pv_pu": "pv_mix_pu",
    "day_ahead_price_eur_per_mwh": "day_ahead_price_eur_per_mwh",
    "feeder_load_pu": "load_lv_grid_suburban_pu",
    "transmission_load_pu": "load_hv_grid_mixed_pu",
}


COMMUNITIES = {
    "ec01-homes": (7, Site("150 homes, air-conditioned by reversible heat pumps", 260, {HOME: 170}, 0,
        [pv(120), battery(200, 80), building("homes", 7.0, 24, 70, 40)], solar_gain_kw=40, internal_gain_kw=18)),
    "ec02-homes-cars": (14, Site("60 homes with cars, half of them V2G", 220, {HOME: 80}, 2,
        [pv(70), fleet(vehicles("v2g", 15, 17.5, 31.0, (28, 48), **V2G), vehicles("plain", 20, 18.5, 30.5, (26, 46)))])),
    "ec03-offices": (24, Site("office park with cars at work", 460, {OFFICE: 260, SHOP: 40}, 0,
        [pv(220), building("offices", 9.0, 30, 90, 90), fleet(vehicles("staff", 45, 8.0, 17.0, (24, 44)))],
        solar_gain_kw=60, internal_gain_kw=40)),
    "ec04-shops": (30, Site("shopping street with a battery", 340, {SHOP: 230}, 1,
        [pv(150), battery(240, 90), building("shops", 6.0, 16, 60, 70)], solar_gain_kw=30, internal_gain_kw=30)),
    "ec05-depot": (25, Site("delivery depot: vans charge at night, some at noon", 420, {SHOP: 60}, 0,
        [pv(120), battery(300, 120), fleet(
            vehicles("night-vans", 24, 18.0, 30.0, (25, 72), capacity_kwh=80.0, charger_kw=22.0),
            vehicles("noon-vans", 8, 11.5, 14.5, (30, 60), capacity_kwh=80.0, charger_kw=22.0))])),
    "ec06-heat-pumps": (18, Site("80 homes on heat pumps with tanks", 200, {HOME: 90}, 3,
        [pv(60), heat_pump(110, 500)], heat={HEAT_SINGLE: 300})),
    "ec07-village": (32, Site("village: homes, shops, cars, wash houses", 280, {HOME: 90, SHOP: 50}, 1,
        [pv(110), battery(120, 50), fleet(vehicles("cars", 20, 18.0, 31.0, (26, 45), **V2G)), heat_pump(50, 200),
         shiftable("laundry", (8.0, 20.0, 120.0, 30.0))], heat={HEAT_MULTI: 120})),
    "ec08-works": (29, Site("works with cars of two shifts and a process to shift", 420, {OFFICE: 120, SHOP: 120}, 2,
        [pv(260), fleet(vehicles("shift", 40, 6.0, 14.0, (22, 42)), vehicles("late-shift", 25, 14.0, 22.0, (24, 44))),
         shiftable("process", (6.0, 14.0, 240.0, 60.0), (14.0, 22.0, 200.0, 60.0))])),
    "ec09-hotel": (22, Site("hotel and baths", 240, {SHOP: 110, HOME: 30}, 0,
        [pv(80), building("rooms", 5.0, 28, 50, 50), heat_pump(45, 180), shiftable("laundry", (7.0, 17.0, 150.0, 40.0))],
        heat={HEAT_SHOP: 100}, solar_gain_kw=20, internal_gain_kw=15)),
    "ec10-solar": (12, Site("solar cooperative: homes, a large battery, V2G cars", 340, {HOME: 120}, 4,
        [pv(320), battery(500, 160), fleet(vehicles("coop", 25, 17.0, 32.0, (27, 47), **V2G))], pv_share_single=0.6)),
}  # fmt: skip


def main() -> None:
    stamps, source = read_source(FOLDER)
    for folder in ("agents", "profiles"):
        (FOLDER / folder).mkdir(exist_ok=True)
    write_csv(FOLDER / "profiles" / "public.csv", stamps, {new: source[old] for new, old in PUBLIC.items()})
    for name, (_, community) in COMMUNITIES.items():
        write_csv(FOLDER / "agents" / f"{name}.csv", stamps, private_columns(community, source))
        (FOLDER / "agents" / f"{name}.toml").write_text(site_toml(community), encoding="utf-8")


if __name__ == "__main__":
    main()
