"""The simulator's parts (:mod:`cnnspark.simulate`): a made-up genome, a sample of it, reads and their alignment."""
