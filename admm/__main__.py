"""`python -m admm` is the command `tieline`."""

from admm.start import main

if __name__ == "__main__":
    raise SystemExit(main())
