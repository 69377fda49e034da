"""`python -m admm` is the command `tieline`."""

from admm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
