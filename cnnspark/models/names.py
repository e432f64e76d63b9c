"""The names of the networks. A module of its own, so that the command line knows them without loading NumPy."""

# cnnspark.models.networks.registry builds them.
MODELS = ("features", "gatk_1d", "gatk_2d", "gatk_2d_mix", "reads", "reference")
# Those that take tensors of ``encoding: gatk``, and of no other encoding.
GATK_MODELS = ("gatk_1d", "gatk_2d", "gatk_2d_mix")
MODELS_WITHOUT_READS = ("gatk_1d", "reference")
# Name of the folder with a cascade's first model, within the bundle of the second.
FIRST = "first"
