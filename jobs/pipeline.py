r"""All stages in a row, from a YAML or flags.

    spark-submit --properties-file conf/spark/yarn.conf jobs/pipeline.py \
        --config conf/cluster.yaml --out run

Takes the options of 'cnnspark run'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable, 5 not good enough (score and run with --strict).
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
