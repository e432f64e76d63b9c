r"""Trains a network without labels, to be finished by jobs/train.py with --init.

    spark-submit --properties-file conf/spark/yarn.conf jobs/pretrain.py \
        --data unlabelled --model-out pretrained --replicas 4 --epochs 10

Takes the options of 'cnnspark pretrain'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable.
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
