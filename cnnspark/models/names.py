"""The names of the networks. A module of its own, so that the command line knows them without loading numpy."""

# models.registry builds them.
MODELS = ("features", "gatk_1d", "gatk_2d", "reads", "reference")
# Those that take tensors of ``encoding: gatk``, and no others.
GATK_MODELS = ("gatk_1d", "gatk_2d")
MODELS_WITHOUT_READS = ("gatk_1d", "reference")
# The bundle of a cascade's first model within that of the second.
FIRST = "first"
