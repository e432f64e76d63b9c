r"""Sets FILTER by score.

    spark-submit --properties-file conf/spark/yarn.conf jobs/filter.py \
        --in scored --out filtered.vcf.gz --precision 0.95

Takes the options of 'cnnspark filter'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable.
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["filter", *sys.argv[1:]]))
