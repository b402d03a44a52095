#!/usr/bin/env python3
"""Trains a logistic regression over 1M rows × 30 mixed columns (20 numbers with NULLs, 10 texts of 2 to 120 values) from Parquet:
CREATE MODEL in dfml beside DuckDB + pandas + scikit-learn, as whole processes on the same cores, with their peak memory and log loss.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 duckdb==2.0.0 pandas==3.1.1
    cargo build && venv/bin/python benches/train_peers.py --dfml target/debug/dfml --write benches/results/train.md

The profile for development has the kernels and what reads Parquet optimised fully; a release build (`target/release/dfml`) serves as well.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
PARSER.add_argument("--dfml", default="target/release/dfml", help="the program to measure")
PARSER.add_argument("--threads", type=int, default=2, help="cores for each side")
PARSER.add_argument("--rows", type=int, default=1_000_000)
PARSER.add_argument("--repeat", type=int, default=3, help="runs of each process; the median counts")
PARSER.add_argument("--generate", metavar="FOLDER", help=argparse.SUPPRESS)
PARSER.add_argument("--write", metavar="FILE", help="also write the table to this Markdown file")
ARGS = PARSER.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(ARGS.threads)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGS.threads])

PEER = """
import sys, time
begin = time.perf_counter()
import duckdb, numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
imported = time.perf_counter()
frame = duckdb.sql(f"SELECT * FROM '{sys.argv[1]}'").df()
labels = frame.pop("label")
numbers = [c for c in frame if c.startswith("x")]
texts = [c for c in frame if c.startswith("t")]
encode = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), texts)
)
rows = encode.fit_transform(frame)
model = LogisticRegression(C=1.0, solver=sys.argv[2], max_iter=500, tol=1e-6).fit(rows, labels)
done = time.perf_counter()
print("loss", log_loss(labels, model.predict_proba(rows)), "seconds", done - begin, "without_imports", done - imported)
"""


def generate(folder):
    import duckdb
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(3)
    n, columns = ARGS.rows, {}
    score = np.zeros(n)
    for i in range(20):
        x = rng.normal(i, 1 + i, n)
        score += (x - i) / (1 + i) * rng.normal() * 0.3
        x[rng.random(n) < 0.02] = np.nan
        columns[f"x{i}"] = x
    for j, count in enumerate([2, 3, 5, 8, 12, 20, 30, 50, 80, 120]):
        code = rng.integers(0, count, n)
        score += (rng.normal(size=count) * 0.4)[code]
        text = np.array([f"value_{v:03d}" for v in range(count)], dtype=object)[code]
        text[rng.random(n) < 0.01] = None
        columns[f"t{j}"] = text
    columns["label"] = np.where(rng.random(n) < 1 / (1 + np.exp(-score)), "yes", "no")
    frame = pd.DataFrame(columns)  # noqa: F841, DuckDB finds it by its name
    duckdb.sql(f"COPY frame TO '{folder}/rows.parquet' (FORMAT parquet)")


def run(command):
    """A process's output, its wall time in seconds and its peak resident memory in MB."""
    with tempfile.TemporaryFile("w+") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        out.seek(0)
        text = out.read()
    if status != 0:
        sys.exit(f"{command[0]} failed:\n{text}")
    return text, seconds, usage.ru_maxrss / 1024


def median(runs):
    return runs[0][0], statistics.median(r[1] for r in runs), statistics.median(r[2] for r in runs)


def main():
    if ARGS.generate:
        # In a process of its own, so that its memory is not measured.
        generate(ARGS.generate)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--rows", str(ARGS.rows), "--generate", folder], check=True)
        script = Path(folder, "peer.py")
        script.write_text(PEER)
        statement = Path(folder, "train.sql")
        statement.write_text(
            f"SET ml.store = 'memory'; SET ml.threads = {ARGS.threads}; SET datafusion.execution.target_partitions = {ARGS.threads};\n"
            f"CREATE EXTERNAL TABLE rows STORED AS PARQUET LOCATION '{folder}/rows.parquet';\n"
            "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', l2_reg = 1, data_split_method = 'NO_SPLIT', input_label_cols = ['label'])\n"
            "AS SELECT * FROM rows;\nSELECT log_loss AS loss FROM ML.EVALUATE(MODEL m);\n"
        )
        sides = []
        for solver in ["lbfgs", "newton-cholesky"]:
            runs = [run([sys.executable, str(script), f"{folder}/rows.parquet", solver]) for _ in range(ARGS.repeat)]
            text, seconds, memory = median(runs)
            without = statistics.median(float(r[0].split()[-1]) for r in runs)
            sides.append((f"DuckDB + scikit-learn, {solver}", seconds, without, memory, float(text.split()[1])))
        text, seconds, memory = median([run([ARGS.dfml, "-q", "--format", "csv", "-f", str(statement)]) for _ in range(ARGS.repeat)])
        loss = float(text.split()[-1])
        ours = ("dfml, CREATE MODEL", seconds, seconds, memory, loss)
    lines = [
        f"{ARGS.rows:,} rows × 30 columns from Parquet, {ARGS.threads} cores ({platform.machine()}), {date.today()}, median of {ARGS.repeat} processes; "
        f"dfml in the profile {Path(ARGS.dfml).resolve().parent.name}",
        "",
        "| | seconds | without Python's imports | peak memory | log loss |",
        "|---|---|---|---|---|",
    ]
    for name, seconds, without, memory, loss in [*sides, ours]:
        lines.append(f"| {name} | {seconds:.1f} | {without:.1f} | {memory:.0f} MB | {loss:.6f} |")
    best = min(sides, key=lambda s: s[2])
    lines += [
        "",
        f"Ratio to the faster of the two: {best[2] / ours[1]:.1f}× in time without imports, {ours[3] / best[3]:.0%} of its memory.",
    ]
    print("\n".join(lines))
    if ARGS.write:
        Path(ARGS.write).write_text("# Training from Parquet\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
