"""How much of the optimum a published tariff reaches: `python -m benchmarks reward_tariffs`.

One coordination run, then every community answers a tariff once, on its own:

    nodal                  a tariff of each community's own
    uniform                one for all of them, from the plain mean of their prices
    uniform, by contract   one for all, rewards from the mean by what each has contracted

each with 1 to 24 blocks a day, and the energy price in as many blocks or period by period. Baselines without
rewards: `flat price` (the day's mean) and `energy price` (period by period). All are valued twice: at the run's
own prices, and by what everything costs when the operators are given these schedules: power as it is, flexibility as
far as they want it. Writes results/reward_tariffs.csv, .md and .png.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

import admm
from admm.couplings import Layout
from admm.output import versions
from benchmarks.figures import save, start_figure
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv
from networks.case import coupling_name, load_case
from networks.centralised import solve_centralised
from networks.market import tariffs
from networks.market.tariffs import CommunityTariffs, Response, TariffRules
from subproblems import Builder, QPAgent, QuadraticProgram

FILE = "reward_tariffs"
CASES = ("ieee33-10ec", "ieee33-10ec:summer")
BLOCKS = (1, 2, 3, 4, 6, 8, 24)
NODAL, UNIFORM, BY_CONTRACT = "nodal", "uniform", "uniform, by contract"
FORMS = (NODAL, UNIFORM, BY_CONTRACT)
COORDINATED, FLAT, PRICED = "coordinated", "flat price", "energy price"
NOTE = (
    "Value: of all communities at the run's prices; its shares are of what coordination is worth more than a flat "
    "price and than the energy price, both without rewards. Total: what everything costs when the operators are given "
    "these schedules; its share is of what coordination saves against the energy price. MW: mean over the day; net "
    "peak: of the feeder without losses."
)
CONFLICT = "contradict each other: "
"""What stands before the limits in conflict; the first of them says enough for a table."""
NOMINAL_MW = 0.1


@dataclass
class TariffRow:
    """blocks: of rewards a day, energy_blocks: of the energy price. Flexibility in MW, mean over periods.

    fits: "yes", or which limits of the networks are in conflict with the schedules; then there is no total."""

    case: str
    tariff: str
    blocks: int | None
    energy_blocks: int | None
    value_eur: float
    share_of_flat: float | None = None
    share_of_energy: float | None = None
    up_short_mw: float = 0.0
    up_over_mw: float = 0.0
    down_short_mw: float = 0.0
    down_over_mw: float = 0.0
    net_peak_mw: float = 0.0
    fits: str = "yes"
    total_eur: float | None = None
    total_share: float | None = None
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


class TariffStudy:
    """A coordinated day, and what communities and networks make of tariffs in its place."""

    def __init__(self, name: str, solver: str) -> None:
        self.name, self.case, self._solver = name, load_case(name), solver
        case = self.case
        self._agents = {agent: case.build_agent(agent, solver) for agent in case.agents}
        result = admm.solve(self._agents, case.couplings)
        self._layout = Layout(case.couplings)
        self._coupling = {n: coupling_name(n, a.network) for n, a in case.communities.items()}
        boundary = {n: result.boundary[at] for n, at in self._coupling.items()}
        self.prices = {n: {q: b.price for q, b in of.items()} for n, of in boundary.items()}
        self.contracted = {n: {q: np.maximum(0.0, of[q].lower) for q in tariffs.REWARDED} for n, of in boundary.items()}
        self.coordinated = {
            n: Response(
                self._agents[n].cost_eur(),
                tariffs.at_coupling(self._coupling[n], {q: b.lower for q, b in of.items()}),
            )
            for n, of in boundary.items()
        }

    def rules(self, blocks: int, energy_blocks: int) -> TariffRules:
        return TariffRules(self.case.horizon.hours, self.case.horizon.periods_per_day, blocks, energy_blocks)

    def published(self, form: str, rules: TariffRules) -> dict[str, CommunityTariffs]:
        if form == NODAL:
            return tariffs.nodal_tariffs(self.prices, rules)
        weights = self.contracted if form == BY_CONTRACT else None
        return dict.fromkeys(self.prices, tariffs.uniform_tariffs(self.prices, rules, weights))

    def baseline(self, flat: bool) -> dict[str, CommunityTariffs]:
        rules = self.rules(1, 1)
        return {n: tariffs.baseline_tariffs(mine, rules, flat) for n, mine in self.prices.items()}

    def responses(self, published: Mapping[str, CommunityTariffs]) -> dict[str, Response]:
        return {
            name: tariffs.response(
                name,
                self._agents[name],
                self._layout.boundary(name),
                tariffs.at_coupling(self._coupling[name], mine.prices()),
            )
            for name, mine in published.items()
        }

    def value_eur(self, told: Mapping[str, Response]) -> float:
        """Of all communities, at the run's prices."""
        return sum(
            tariffs.value_eur(told[n], tariffs.at_coupling(self._coupling[n], mine)) for n, mine in self.prices.items()
        )

    def row(
        self, words: str, told: Mapping[str, Response], blocks: int | None = None, energy_blocks: int | None = None
    ) -> TariffRow:
        """All of a row that needs no other row."""
        short_and_over = {}
        for direction, quantity in (("up", tariffs.UP), ("down", tariffs.DOWN)):
            seen = tariffs.flexibility_seen(self._all(told, quantity), self._all(self.coordinated, quantity))
            short_and_over[f"{direction}_short_mw"] = float(seen.short_mw.mean())
            short_and_over[f"{direction}_over_mw"] = float(seen.over_mw.mean())
        row = TariffRow(self.name, words, blocks, energy_blocks, self.value_eur(told), **short_and_over)
        row.net_peak_mw = tariffs.net_peak_mw(self._all(told, tariffs.ENERGY), self._other_load_mw())
        row.total_eur, row.fits = self._total_eur(told)
        return row

    def _all(self, told: Mapping[str, Response], quantity: str) -> list[np.ndarray]:
        return [told[name].values[at, quantity] for name, at in self._coupling.items()]

    def _other_load_mw(self) -> np.ndarray:
        (network,) = self.case.folder.distribution
        return self.case.distribution_model(network).load_p_mw.sum(axis=1)

    def _total_eur(self, told: Mapping[str, Response]) -> tuple[float | None, str]:
        """What everything costs with these schedules; or None, and why they do not fit into the networks."""
        held = {name: QPAgent(held_program(name, mine), self._solver) for name, mine in told.items()}
        operators = {name: self.case.build_agent(name, self._solver) for name in self.case.operators}
        try:
            found = solve_centralised(self.case, agents=held | operators)
        except admm.InfeasibleError as error:
            return None, str(error).partition(CONFLICT)[2].partition(";")[0] or str(error)
        return found.solution.objective_eur + sum(mine.cost_eur for mine in told.values()), "yes"


def held_program(name: str, told: Response) -> QuadraticProgram:
    """Draws what a response said, and offers what it promised."""
    builder = Builder(name)
    for (coupling, quantity), values in told.values.items():
        most = np.maximum(values, 0.0) if quantity in tariffs.REWARDED else values
        least = np.zeros_like(values) if quantity in tariffs.REWARDED else values
        block = builder.variable(quantity, values.size, least, most, unit="MW", scale=NOMINAL_MW)
        builder.boundary(coupling, quantity, block)
    return builder.build()


def run_reward_tariffs(options: Options) -> list[dict[str, Any]]:
    rows: list[TariffRow] = []
    for name in chosen(CASES, options.subjects, "case"):
        rows += measured(TariffStudy(name, options.solver))
    found = [asdict(row) for row in rows]
    write_csv(options.out / f"{FILE}.csv", found)
    (options.out / f"{FILE}.md").write_text(markdown_table(found, NOTE, nothing="-"), encoding="utf-8")
    draw(rows, options)
    return found


def measured(study: TariffStudy) -> list[TariffRow]:
    best = study.row(COORDINATED, study.coordinated)
    flat = study.row(FLAT, study.responses(study.baseline(flat=True)))
    priced = study.row(PRICED, study.responses(study.baseline(flat=False)))
    rows = [compared(row, best, flat, priced) for row in (best, flat, priced)]
    periods = study.case.horizon.periods
    for form in FORMS:
        for blocks in BLOCKS:
            for energy_blocks in dict.fromkeys((blocks, periods)):
                told = study.responses(study.published(form, study.rules(blocks, energy_blocks)))
                rows.append(compared(study.row(form, told, blocks, energy_blocks), best, flat, priced))
                print(asdict(rows[-1]), flush=True)
    return rows


def compared(row: TariffRow, best: TariffRow, flat: TariffRow, priced: TariffRow) -> TariffRow:
    """With its shares."""
    of_total = None
    if None not in (row.total_eur, best.total_eur, priced.total_eur):
        of_total = tariffs.captured_share(-row.total_eur, -priced.total_eur, -best.total_eur)
    return replace(
        row,
        share_of_flat=tariffs.captured_share(row.value_eur, flat.value_eur, best.value_eur),
        share_of_energy=tariffs.captured_share(row.value_eur, priced.value_eur, best.value_eur),
        total_share=of_total,
    )


def draw(rows: list[TariffRow], options: Options) -> None:
    """Shares and net peak over the number of blocks, a row of panels a case; what does not fit is left open."""
    cases = list(dict.fromkeys(row.case for row in rows))
    panels = {
        "share_of_energy": "share of value, at the run's prices",
        "total_share": "share of what coordination saves",
        "net_peak_mw": "net peak, MW",
    }
    figure, axes = start_figure(columns=len(panels), rows=len(cases), width=4.6, height=3.8)
    for line, case in zip(axes, cases, strict=True):
        here = [row for row in rows if row.case == case]
        for panel, (key, words) in zip(line, panels.items(), strict=True):
            _draw_panel(panel, here, key)
            panel.set(title=case, xlabel="blocks a day", ylabel=words)
    axes[0, -1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, options.out / f"{FILE}.png")


def _draw_panel(panel: Any, rows: list[TariffRow], key: str) -> None:
    most = max(row.blocks for row in rows if row.blocks)
    for number, form in enumerate(FORMS):
        for style, words in (("o-", "energy price in blocks, too"), ("s--", "energy price as it is")):
            mine = [
                row
                for row in rows
                if row.tariff == form and (row.energy_blocks == (row.blocks if style == "o-" else most))
            ]
            values = [np.nan if getattr(row, key) is None else getattr(row, key) for row in mine]
            panel.plot([row.blocks for row in mine], values, style, color=f"C{number}", label=f"{form}; {words}")
    for words, style in ((COORDINATED, "-"), (FLAT, ":")) if key == "net_peak_mw" else ():
        value = next(getattr(row, key) for row in rows if row.tariff == words)
        panel.axhline(value, color="grey", linestyle=style, linewidth=0.8, label=words)
    panel.set_xscale("log", base=2)
    panel.set_xticks(BLOCKS, [str(blocks) for blocks in BLOCKS])
