r"""Builds labelled tensors of a callset and writes them to Parquet through Petastorm.

    spark-submit --properties-file conf/spark/yarn.conf jobs/build_tensors.py \
        --vcf sample.vcf.gz --reads sample.bam --reference ref.fa \
        --truth truth.vcf.gz --bed confident.bed --out tensors

Takes the options of 'cnnspark tensors'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable.
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["tensors", *sys.argv[1:]]))
