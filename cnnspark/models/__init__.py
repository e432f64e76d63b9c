"""The networks and the bundle that carries one.

``names``, ``spec`` and ``card`` are pure (no keras), so that a preflight can read a model's card in no time;
``registry`` builds a network by its name; ``bundle`` saves, loads and runs one.
"""
