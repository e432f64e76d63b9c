"""What is fast and what is right, measured; each module prints a table and writes JSON with ``--json FILE``."""
