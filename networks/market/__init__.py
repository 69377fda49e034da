"""The intra-day market: what is known at each gate, and what turns out."""
