"""What knows nothing of genomes, used by all other packages; import the module itself.

``storage`` reads and writes files on local folders and object stores, ``log`` writes the lines of a run on stderr and
``text_tables`` formats tables for people and programs. ``dataclass_settings`` fills settings from YAML and ``--set``,
``error_translation`` turns any failure into one of :mod:`cnnspark.errors`, ``stopwatch`` measures where a block's time
goes, and ``numba_jit`` compiles kernels with the settings and the cache of all of them.
"""
