"""What the benchmarks share: timing, tables, the regression guard, and the comparison of two commits' outputs."""
