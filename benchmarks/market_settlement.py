"""Recompute the settlement of a day from its CSV files alone, with pandas and nothing of Tieline's ledger.

`python -m benchmarks market_settlement` does so for five draws of the main case, and says what was overloaded in them.
Writes results/market_settlement.csv and .md.

amounts      running sums of quantity x price of each coupling and product, rounded to whole cents
agents       sums of these amounts by agent and product
positions    day-ahead energy, then the changes of every gate, then imbalance
activation   what of the changes lies inside the band that was contracted day-ahead
prices       day-ahead and of imbalance, which lies above the last price when the system is short, else below
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from admm.cli import main as tieline
from admm.output import versions
from benchmarks.options import Options
from benchmarks.realised_flows import overloads
from benchmarks.tables import markdown_table, write_csv
from networks.case import load_case

CASE, DRAWS = "ieee33-10ec", range(5)
ENERGY, CHANGES = "energy", ["activation", "intraday_energy"]
OWN = ["own_cost", "relief"]
"""Rows of agents.csv that nobody pays to anybody."""
OUTSIDE = "outside"
AT = ["coupling", "period"]


NOTE = (
    "Recomputed from settlement.csv; errors are the largest differences. Overloads are those of AC flows, with the "
    "operator's reactive support. `anew`: found once more by pandapower from the files of the day, in a network made "
    "from the table of branches. `without support`: the same without reactive support, which did not happen."
)


@dataclass(frozen=True)
class Recomputed:
    """How far the files are from what follows from them. entries: of the ledger. sum_cents: over all agents and the
    outside. wrong_cents, wrong_agent_cents: the largest difference. wrong_signs: imbalance prices on the wrong side."""

    entries: int
    wrong_cents: int
    wrong_agent_cents: int
    sum_cents: int
    position_error_mw: float
    activation_error_mw: float
    price_error_eur_per_mwh: float
    wrong_signs: int


def recomputed(folder: Path) -> Recomputed:
    """Recompute a day from settlement.csv, and compare with it, agents.csv and positions.csv."""
    ledger, agents, positions = (pd.read_csv(folder / f"{name}.csv") for name in ("settlement", "agents", "positions"))
    times = pd.to_datetime(positions.time_utc.drop_duplicates())
    hours = (times.iloc[1] - times.iloc[0]) / pd.Timedelta(hours=1)
    power = positions[positions.quantity == "p_mw"].copy()
    power["period"] = power.groupby("coupling").cumcount()
    power = power.set_index(AT).sort_index()
    cents = amounts_cents(ledger)
    by_agent = agent_cents(ledger.assign(cents=cents))
    stated = agents[~agents["product"].isin(OWN)].set_index(["agent", "product"]).amount_eur * 100
    return Recomputed(
        entries=len(ledger),
        wrong_cents=int(abs(cents - np.rint(100 * ledger.lower_pays_eur)).max()),
        wrong_agent_cents=int(by_agent.sub(stated, fill_value=0).abs().round().max()),
        sum_cents=int(by_agent.sum()),
        position_error_mw=position_error(ledger, power, hours),
        activation_error_mw=activation_error(ledger, hours),
        price_error_eur_per_mwh=price_error(ledger, power),
        wrong_signs=wrong_signs(ledger, power),
    )


def amounts_cents(ledger: pd.DataFrame) -> pd.Series:
    """Whole cents of every entry: what its account's rounded running sum grows by."""
    exact = ledger.quantity_mwh * ledger.price_eur_per_mwh
    account = [ledger.coupling, ledger["product"]]
    running = (100 * exact.groupby(account).cumsum()).round()
    return running.groupby(account).diff().fillna(running).astype(int)


def agent_cents(ledger: pd.DataFrame) -> pd.Series:
    """Cents that each agent received less paid, by product; what is 0 is left out."""
    paid = -ledger.groupby(["lower", "product"]).cents.sum()
    received = ledger.groupby(["upper", "product"]).cents.sum()
    both = paid.rename_axis(["agent", "product"]).add(received.rename_axis(["agent", "product"]), fill_value=0)
    return both[both != 0]


def position_error(ledger: pd.DataFrame, power: pd.DataFrame, hours: float) -> float:
    """The largest difference in MW between positions.csv and the sums of the ledger's quantities."""

    def total(products: list[str]) -> pd.Series:
        found = ledger[ledger["product"].isin(products)].groupby(AT).quantity_mwh.sum() / hours
        return found.reindex(power.index, fill_value=0.0)

    planned, changed, deviated = total([ENERGY]), total(CHANGES), total(["imbalance"])
    pairs = (
        (planned, power.day_ahead_mw),
        (planned + changed, power.last_plan_mw),
        (planned + changed + deviated, power.realised_mw),
    )
    return max(float((found - stated).abs().max()) for found, stated in pairs)


def activation_error(ledger: pd.DataFrame, hours: float) -> float:
    """The largest difference in MW between activation and the change inside the contracted band, gate by gate."""
    wide = ledger.pivot_table("quantity_mwh", [*AT, "gate"], "product", "sum", fill_value=0.0) / hours
    wide = wide.reindex(columns=[ENERGY, "capacity_up", "capacity_down", *CHANGES], fill_value=0.0)
    worst = 0.0
    for _, one in wide.groupby(level=AT):
        held = one.droplevel(AT).sort_index()
        if -1 not in held.index:
            continue
        agreed, up, down = held.loc[-1, [ENERGY, "capacity_up", "capacity_down"]]
        position = agreed + held[CHANGES].sum(axis=1).cumsum()
        inside = position.clip(agreed - max(up, 0.0), agreed + max(down, 0.0))
        worst = max(worst, float((inside.diff().fillna(0.0) - held.activation).abs().max()))
    return worst


def price_error(ledger: pd.DataFrame, power: pd.DataFrame) -> float:
    """The largest difference in EUR/MWh between prices of entries and of positions.csv, or of products at one gate."""
    worst = 0.0
    for product, column in ((ENERGY, "day_ahead_eur_per_mwh"), ("imbalance", "imbalance_eur_per_mwh")):
        entries = ledger[ledger["product"] == product].set_index(AT).price_eur_per_mwh
        worst = max(worst, float((entries - power[column].reindex(entries.index)).abs().max()))
    changes = ledger[ledger["product"].isin(CHANGES)].groupby([*AT, "gate"]).price_eur_per_mwh
    return max(worst, float((changes.max() - changes.min()).max()))


def wrong_signs(ledger: pd.DataFrame, power: pd.DataFrame) -> int:
    """How many imbalance prices are not on the side of the last price that the system's deviation asks for."""
    ends = ledger[ledger.coupling != OUTSIDE].drop_duplicates("coupling").set_index("coupling")
    top = ends.index[~ends.upper.isin(ends.lower)]
    deviation = (power.realised_mw - power.last_plan_mw).unstack("period").loc[top].sum()
    spread = (power.imbalance_eur_per_mwh - power.last_eur_per_mwh).unstack("period")
    return int((spread * np.sign(deviation) < 0).sum().sum())


def run_market_settlement(options: Options) -> None:
    """Settle five draws of the main case, and recompute each from its files."""
    path, case = options.out / "market_settlement.csv", load_case(CASE)
    rows = options.former_rows(path)
    for draw in (draw for draw in DRAWS if draw not in [row["draw"] for row in rows]):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            code = tieline(["market", CASE, "--draw", str(draw), "--out", str(out)])
            told = of_draw(out / "settlement") | overloads(case, out, draw)
            rows.append({"draw": draw, "exit_code": code, **told, "versions": versions()})
        write_csv(path, rows)
    (options.out / "market_settlement.md").write_text(markdown_table(rows, NOTE, nothing="-"), encoding="utf-8")


def of_draw(folder: Path) -> dict[str, Any]:
    """What is recomputed, and the realised overloads that the summary tells."""
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    keys = ("realised_overloads", "ac_max_voltage_violation_pu", "ac_max_current_violation_share")
    found = {**asdict(recomputed(folder)), **{key: told[key] for key in keys}}
    return found | {"worst_overload": told["realised_overload_words"].partition(";")[0] or "-"}
