"""`python -m benchmarks COMMAND`: every measurement of the project, a command each. See README.md."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from admm import InputError
from benchmarks.options import add_options, options_from

COMMANDS = {
    "grid": ("benchmarks.grid", "run_grid", "a fixed penalty at each of 21 values: what the baselines are tuned by"),
    "convergence": ("benchmarks.convergence", "run_convergence", "exchanges of all variants on all subjects"),
    "round_trips": ("benchmarks.round_trips", "run_round_trips", "at which round-trip time which scheme wins"),
    "headline": ("benchmarks.headline", "run_headline", "adaptive against classical on the case with hubs"),
    "wrong_start": ("benchmarks.wrong_start", "run_wrong_start", "the penalty started 100 times wrong"),
    "ablation": ("benchmarks.ablation", "run_ablation", "each ingredient of the default left out"),
    "warm": ("benchmarks.warm", "run_warm", "warm start after errors of load and PV"),
    "scaling": ("benchmarks.scaling", "run_scaling", "10 to 1000 hubs, against monolithic solvers"),
    "main_case": ("benchmarks.main_case", "run_main_case", "the main case in all variants against its reference"),
    "nonlinear": ("benchmarks.nonlinear", "run_nonlinear", "hubs, feeder and gas network against IPOPT's optimum"),
    "flexibility": ("benchmarks.flexibility", "run_flexibility", "what the hubs' flexibility is worth"),
    "reward_tariffs": ("benchmarks.reward_tariffs", "run_reward_tariffs", "how much of it all a tariff reaches"),
    "privacy": ("benchmarks.privacy", "run_privacy", "what noise and masked sums cost"),
    "market_studies": ("benchmarks.market_studies", "run_market_studies", "six studies on the market, many draws"),
    "market_gates": ("benchmarks.market_gates", "run_market_gates", "every gate of a day, warm and cold"),
    "faults": ("benchmarks.faults", "run_faults", "what becomes of a run when something goes wrong"),
    "time_by_rank": ("benchmarks.time_by_rank", "run_time_by_rank", "where the wall time goes on 1 to 11 ranks"),
    "fuzz": ("benchmarks.fuzz", "run_fuzz", "bad input of every kind: each ends in a result or one line of ours"),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, _, words) in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        add_options(command)
        own = getattr(import_module(module), "add_own_options", None)
        if own is not None:
            own(command)
    given = parser.parse_args(arguments)
    module, function, _ = COMMANDS[given.command]
    try:
        getattr(import_module(module), function)(options_from(given))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
