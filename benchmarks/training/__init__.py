"""Training: steps, replicas, datasets, pre-training, two-stage models, and the simulated samples to train on."""
