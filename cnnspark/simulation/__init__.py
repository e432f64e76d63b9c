"""The simulator's parts (:mod:`cnnspark.simulation.simulate`): a made-up genome, a sample of it, reads and their
alignment."""
