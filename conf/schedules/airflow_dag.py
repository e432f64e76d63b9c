"""A nightly run with Airflow on YARN: score and filter one sample; the exit code decides what happens next.

Needs the package apache-airflow-providers-apache-spark and a connection 'spark_yarn'.
"""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

with DAG(
    dag_id="cnnspark_nightly",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
) as dag:
    SparkSubmitOperator(
        task_id="filter",
        conn_id="spark_yarn",
        application="/opt/cnnspark/jobs/pipeline.py",
        properties_file="/opt/cnnspark/conf/spark/yarn.conf",
        application_args=[
            "--vcf=/data/{{ ds }}/sample.vcf.gz",
            "--reads=/data/{{ ds }}/sample.cram",
            "--reference=/data/reference/ref.fa",
            "--model=/data/models/current",
            "--out=/data/{{ ds }}/cnnspark",
            # A retry goes on where the last attempt ended.
            "--if-exists=resume",
        ],
    )
