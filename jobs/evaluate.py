r"""Measures how well a callset's scores tell true alleles from false ones.

    spark-submit --properties-file conf/spark/yarn.conf jobs/evaluate.py \
        --vcf scored --truth truth.vcf.gz --bed confident.bed --reference ref.fa --out evaluation

Takes the options of 'cnnspark evaluate'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable.
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
