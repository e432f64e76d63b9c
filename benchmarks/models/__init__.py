"""The networks: rates, the bundled models' making, and comparisons of settings."""
