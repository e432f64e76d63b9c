r"""Trains a network on a dataset, one replica a task, gradients all-reduced.

    spark-submit --properties-file conf/spark/yarn.conf jobs/train.py \
        --data tensors --model-out model --replicas 4 --epochs 10

Takes the options of 'cnnspark train'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable.
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
