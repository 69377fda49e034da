"""What `tieline run` says at its end: a name and its words a line."""

from __future__ import annotations

from typing import Any

from admm.state import Result

UNKNOWN_GAP = "unknown (tieline centralised CASE --save-reference)"


def closing_words(result: Result, summary: dict[str, Any], folder: str) -> str:
    """The result as a person wants to read it."""
    seen, gap, overlap_kw = result.residuals, summary["gap_to_reference"], summary["max_simultaneous_kw"]
    parts = {
        "status": _status_words(result, summary),
        **({"note": result.note} if result.note else {}),
        **({"LOST": _lost_words(result)} if result.lost_agents else {}),
        "iterations": str(result.iterations),
        "objective": "not shared" if result.objective is None else f"{result.objective:.4f} EUR",
        "certificate": _certificate_words(result, summary),
        "schedule": _schedule_words(result),
        "gap to reference": UNKNOWN_GAP if gap is None else f"{gap:+.1e} of the boundary turnover",
        "primal residual": f"{seen.primal:.3g} (tolerance {seen.primal_tolerance:.3g})",
        "dual residual": f"{seen.dual:.3g} (tolerance {seen.dual_tolerance:.3g})",
        "largest mismatch": f"{seen.mismatch:.2e} of scale, {_where_mismatch(result)}",
        **_solver_words(summary),
        "agents' constraints": f"largest violation {summary['max_violation_pu']:.1e} per unit",
        "AC check": _ac_words(summary),
        **_hub_words(result, summary),
        "charge + discharge": f"up to {overlap_kw:.1f} kW at once" if overlap_kw else "never at once",
        "time": _time_words(result),
        "exchanged": f"{result.bytes_exchanged / 1e6:.2f} MB",
        "results": f"{folder}/",
    }
    return "\n".join(f"  {name:20} {words}" for name, words in parts.items())


def _solver_words(summary: dict[str, Any]) -> dict[str, str]:
    """Where a solver was stuck only."""
    replaced = summary["replaced_solvers"]
    return {"solver replaced": f"{replaced}, which was stuck"} if replaced else {}


def _lost_words(result: Result) -> str:
    names = ", ".join(f"'{name}'" for name in result.lost_agents)
    return (
        f"the last values stand of {names}, without which the run went on ({next(iter(result.lost_agents.values()))})"
    )


def _certificate_words(result: Result, summary: dict[str, Any]) -> str:
    if result.certified_gap is not None:
        return f"cost proven within {result.certified_gap:.1e} of the boundary turnover above the optimum's"
    if summary["scheme"] == "two-block":
        return "none (--scheme certified or memory gives one)"
    return "none: no upper or no lower bound was found; agents that do not tell their cost leave none"


def _schedule_words(result: Result) -> str:
    """Say what a whole schedule costs; the objective is an estimate of it."""
    eur, gap, reason, change = result.schedule_cost
    if eur is None:
        return f"its cost is unknown: {reason}"
    follow = f", which give way by {change:.1e} of scale" if change else ""
    return (
        f"{eur:.4f} EUR if all follow the lower agents{follow}, {gap:+.1e} of the boundary turnover from the objective"
    )


def _where_mismatch(result: Result) -> str:
    """The coupling, quantity and period that disagree most."""
    all_of = ((c, q, values.mismatch) for c, quantities in result.boundary.items() for q, values in quantities.items())
    coupling, quantity, mismatch = max(all_of, key=lambda found: found[2].max())
    return f"at {coupling}, {quantity}, period {int(mismatch.argmax())}"


def _status_words(result: Result, summary: dict[str, Any]) -> str:
    failed = f", but a check did NOT pass: {summary['failed_checks']}" if summary["failed_checks"] else ""
    return f"{result.status.value}{failed}"


def _ac_words(summary: dict[str, Any]) -> str:
    voltage, losses = summary["ac_max_voltage_error_pu"], summary["ac_max_loss_error"]
    if summary["ac_passed"] is None:
        return "nothing to check: no feeder has a schedule"
    if voltage is None:
        return "NOT passed: there is no AC power flow for this schedule"
    passed = "" if summary["ac_passed"] else "NOT passed: "
    own = f"voltages within {voltage:.1e} pu, losses within {losses:.3%} of pandapower's, in all periods"
    return f"{passed}{own}{_net_words(summary)}{_called_words(summary)}"


def _called_words(summary: dict[str, Any]) -> str:
    """Say that limits hold with flexibility called, where that was checked and passed."""
    called = any(key.startswith("ac_activation_") for key, value in summary.items() if value is not None)
    return "; limits hold with all flexibility called, too" if called and summary["ac_passed"] else ""


def _net_words(summary: dict[str, Any]) -> str:
    """Of the user's own network, where there is one."""
    voltage, losses = summary["user_net_max_voltage_error_pu"], summary["user_net_max_loss_error"]
    if voltage is None:
        return ""
    return f"; in the user's network within {voltage:.1e} pu and {losses:.3%}"


def _hub_words(result: Result, summary: dict[str, Any]) -> dict[str, str]:
    """Of runs with gas only."""
    if not any("gas_mw" in quantities for quantities in result.boundary.values()):
        return {}
    bar, below_kw = summary["gas_max_pressure_error_bar"], summary["max_below_minimum_kw"]
    passed = "" if summary["gas_passed"] else "NOT passed: "
    exact = "NOT passed: there is no gas flow for this schedule"
    words = exact if bar is None else f"{passed}pressures within {bar:.1e} bar of the exact flow's, in all periods"
    minimum = f"a CHP runs up to {below_kw:.1f} kW below its minimum load" if below_kw else "kept by every CHP"
    return {"gas check": words, "minimum loads": minimum}


def _time_words(result: Result) -> str:
    timing = result.timing
    return (
        f"{timing.wall:.2f} s: agents {timing.agents:.2f}, operators {timing.operators:.2f}, "
        f"communication {timing.communication:.2f}, waiting {timing.waiting:.2f}, engine {timing.engine:.2f}"
    )


def market_words(summary: dict[str, Any], folder: str) -> str:
    """What a day on the market came to."""
    parts = {
        "gates": f"{summary['gates']}, {summary['median_gate_iterations']} iterations in the median "
        f"(day-ahead {summary['day_ahead_iterations']}), {summary['gates_not_converged']} not converged, "
        f"{summary['gate_seconds']:.1f} s",
        "cost": f"{summary['cost_eur']:.2f} EUR (day-ahead {summary['day_ahead_cost_eur']:.2f}), of it balancing "
        f"{summary['balancing_eur']:.2f}",
        "flexibility": f"moved within contracts: up {summary['inside_up_mwh']:.3f}, down "
        f"{summary['inside_down_mwh']:.3f} MWh; beyond: {summary['beyond_up_mwh']:.3f}, "
        f"{summary['beyond_down_mwh']:.3f}",
        "gave way": f"{summary['relief_eur']:.2f} EUR of agents' limits, "
        f"{summary['reserve_short_mwh']:.3f} MWh of reserve",
        **_solver_words(summary),
        "realised flows": _realised_words(summary),
        "settlement": f"adds up to {summary['settlement_sum_cents'] / 100:.2f} EUR",
        "against alone": _alone_words(summary),
        "results": f"{folder}/",
    }
    return "\n".join(f"  {name:20} {words}" for name, words in parts.items())


def _realised_words(summary: dict[str, Any]) -> str:
    """Say whether what happened agrees with AC flows and keeps the feeders' limits."""
    count, words = summary["realised_overloads"], summary["realised_overload_words"]
    return f"NOT passed: {count} times beyond a limit: {words}" if count else _ac_words(summary)


def _alone_words(summary: dict[str, Any]) -> str:
    """Compare communities with themselves alone: as settled under the same errors, and day-ahead."""
    settled, missing = summary["settled_worse_off"], summary["settled_not_compared"]
    parts = [f"settled, worse off: {settled}" if settled else "settled, no community is worse off"]
    parts += [f"not compared: {missing}"] if missing else []
    day_ahead = summary["day_ahead_worse_off"]
    parts += [f"day-ahead, worse off: {day_ahead}" if day_ahead else "day-ahead, no community is worse off"]
    return "; ".join(parts)
