r"""Scores a callset: VCF shards, manifest, and one merged, indexed VCF.

    spark-submit --properties-file conf/spark/yarn.conf jobs/score.py \
        --vcf sample.vcf.gz --reads sample.bam --reference ref.fa --model model --out scored

Takes the options of 'cnnspark score'; --help lists them. Exit codes: 0 done, 2 usage or configuration,
3 the inputs do not fit, 4 failed and resumable, 5 not good enough (score and run with --strict).
"""

import sys

from cnnspark.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
