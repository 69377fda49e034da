"""Benchmarks: subjects, measurements and their committed results. See benchmarks/README.md."""
