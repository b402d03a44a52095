#!/usr/bin/env python3
"""Runs other programs beside dfml: the same generated data, the same machine, the same cores, one run; prints the ratios.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 implicit==0.7.3 \\
        duckdb==2.0.0 pyarrow==26.0.1 pandas==3.1.1 threadpoolctl==3.8.0
    cargo build --release
    venv/bin/python benches/peers.py                  # everything, on two cores
    venv/bin/python benches/peers.py --quick --only pipeline
    venv/bin/python benches/peers.py --write benches/results/peers.md
"""

import argparse
import csv
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dfml", default="target/release/dfml", help="the program to measure")
    parser.add_argument("--threads", type=int, default=2, help="cores for each side")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows: does everything run?")
    parser.add_argument("--only", default="kmeans,pipeline,als,score", help="kmeans, pipeline, als, score, with commas")
    parser.add_argument("--repeat", type=int, default=3, help="runs of a whole process; the median counts")
    parser.add_argument("--write", metavar="FILE", help="also write the table to this Markdown file")
    return parser.parse_args()


ARGS = arguments()
# Both sides on the same cores, and no hand-set BLAS kernel: libraries look at these when they are loaded.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.pop(name, None)
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: ARGS.threads])

import duckdb  # noqa: E402
import implicit  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import scipy.sparse as sp  # noqa: E402
import sklearn  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from threadpoolctl import threadpool_info, threadpool_limits  # noqa: E402

FOLDER = Path()
TABLE = []


def size(n):
    return max(n // 20, 20_000) if ARGS.quick else n


def run(command, **options):
    """A process's output and its wall time in seconds."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, **options)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))[:300]}\nfailed:\n{done.stderr[-3000:]}")
    return done.stdout, seconds


def dfml(*statements):
    """The last statement's rows, and the wall time of the whole process."""
    script = FOLDER / "script.sql"
    script.write_text(";\n".join(statements) + ";\n")
    out, seconds = run(
        [ARGS.dfml, "--quiet", "--format", "csv", "--threads", str(ARGS.threads), "--store", FOLDER / "models", "-f", script]
    )
    return list(csv.DictReader(io.StringIO(out))), seconds


def median(runs):
    return statistics.median(runs)


def add(task, peer, theirs, ours, unit, quality=("", ""), asked=""):
    """One line of the table; times of both sides in `unit`."""
    ratio = f"{theirs / ours:.2f}×"
    TABLE.append((task, peer, f"{theirs:.4g} {unit}", f"{ours:.4g} {unit}", ratio, *quality, asked))
    print(" | ".join(TABLE[-1]), flush=True)


def blobs(rows, features, kinds, seed):
    """Overlapping clouds, so that k-means does not come to an end within the passes that are timed."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-2, 2, (kinds, features))
    x = rng.standard_normal((rows, features), dtype=np.float32)
    x += centers[rng.integers(0, kinds, rows)].astype(np.float32)
    return x


def write_columns(path, x):
    pq.write_table(pa.table({f"x{i}": x[:, i] for i in range(x.shape[1])}), path)


def kmeans_passes():
    """A pass of Lloyd's algorithm, passes 11 to 30 from the same first centroids, both over f32."""
    for features, k in ((8, 8), (32, 32)):
        rows = size(1_000_000)
        x = blobs(rows, features, 2 * k, features)
        path = FOLDER / f"pass{features}.parquet"
        write_columns(path, x)
        init = x[:: rows // k][:k]

        def peer(passes):
            model = KMeans(k, init=init, n_init=1, tol=0, max_iter=passes, algorithm="lloyd")
            begin = time.perf_counter()
            model.fit(x)
            return time.perf_counter() - begin, model

        warnings.simplefilter("ignore")
        peer(2)
        short, long, model = [], [], None
        for _ in range(ARGS.repeat):
            short.append(peer(10)[0])
            seconds, model = peer(30)
            long.append(seconds)
        theirs = (median(long) - median(short)) / (model.n_iter_ - 10) * 1000
        lists = ", ".join("[" + ", ".join(repr(float(v)) for v in row) + "]" for row in init)
        ours, loss = [], None
        for _ in range(ARGS.repeat):
            info, _ = dfml(
                f"SELECT iteration, loss, duration_ms FROM ML.TRAIN('pass', (SELECT * FROM '{path}'), model_type => 'kmeans', k => {k}, "
                f"standardize => false, init => [{lists}], max_iterations => 30, tolerance => 0) ORDER BY iteration"
            )
            ours.append(statistics.mean(float(row["duration_ms"]) for row in info[10:30]))
            loss = float(info[-1]["loss"])
        add(
            f"k-means pass, {rows:,} × {features}, k = {k}",
            "scikit-learn Lloyd",
            theirs,
            median(ours),
            "ms",
            (f"mean squared distance {model.inertia_ / rows:.6g}", f"{loss:.6g}"),
            "≥ 1×",
        )


PIPELINE = """
import json, sys, time
start = time.perf_counter()
import duckdb, numpy as np, pyarrow as pa
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
begin = time.perf_counter()
import warnings; warnings.simplefilter("ignore")
source, target, threads = sys.argv[1:]
con = duckdb.connect()
con.execute(f"SET threads = {threads}")
columns = con.sql(f"SELECT * FROM '{source}'").fetchnumpy()
x = StandardScaler().fit_transform(np.column_stack(list(columns.values())))
model = KMeans(8, n_init=1, max_iter=20, tol=0, random_state=0).fit(x)
result = pa.table({**columns, "segment": model.labels_ + 1, "segment_distance": np.linalg.norm(x - model.cluster_centers_[model.labels_], axis=1)})
con.sql("SELECT * FROM result").write_parquet(target)
print(json.dumps({"seconds": time.perf_counter() - begin, "passes": int(model.n_iter_), "inertia": float(model.inertia_)}))
"""


def pipeline():
    """From Parquet to segments in Parquet, each side a process of its own."""
    rows = size(2_000_000)
    source, target = FOLDER / "pipeline.parquet", FOLDER / "segments.parquet"
    write_columns(source, blobs(rows, 8, 16, 3).astype(np.float64))
    wall, inner, ours, answer, inertia = [], [], [], None, []
    seeds = range(1, ARGS.repeat + 1)
    for seed in seeds:
        out, seconds = run([sys.executable, "-c", PIPELINE, source, FOLDER / "peer.parquet", str(ARGS.threads)])
        answer = json.loads(out)
        wall.append(seconds)
        inner.append(answer["seconds"])
        target.unlink(missing_ok=True)
        _, seconds = dfml(
            f"COPY (SELECT * FROM KMEANS_SEGMENT((SELECT * FROM '{source}'), k => 8, max_iterations => 20, tolerance => 0, "
            f"seed => {seed})) TO '{target}'"
        )
        ours.append(seconds)
        n, squares = duckdb.sql(f"SELECT count(*), sum(segment_distance ** 2) FROM '{target}'").fetchall()[0]
        if n != rows:
            sys.exit(f"{target} has {n} rows, not {rows}")
        # Ours are scaled by the sample deviation, theirs by the population's.
        inertia.append(squares * n / (n - 1))
    quality = (f"inertia {answer['inertia']:.6g}, {answer['passes']} passes", f"inertia {median(inertia):.6g}, 20 passes")
    task = f"Parquet to segments in Parquet, {rows:,} × 8, k = 8"
    add(task, "DuckDB + scikit-learn, process", median(wall), median(ours), "s", quality, "≥ 2×")
    add(task, "the same without its imports", median(inner), median(ours), "s", quality)


def shop(users, items, mean):
    """Who bought what: items of very different popularity, tastes in 40 kinds, users of very different activity."""
    rng = np.random.default_rng(4)
    popularity = rng.gamma(0.8, 1.0, items) + 1e-3
    loading = rng.gamma(0.08, 1.0, (40, items)) + 0.002
    tastes = rng.dirichlet(np.full(40, 0.08), users)
    count = np.clip((mean * rng.lognormal(-0.5, 1.0, users)).astype(int), 10, items // 3)
    rows, columns = [], []
    for begin in range(0, users, 512):
        weight = np.log(tastes[begin : begin + 512] @ loading + 1e-9) + np.log(popularity)
        weight += rng.gumbel(size=weight.shape)
        order = np.argsort(-weight, axis=1)
        for i, ranked in enumerate(order):
            bought = ranked[: count[begin + i]]
            rows.append(np.full(len(bought), begin + i))
            columns.append(bought)
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    held = rng.random(len(rows)) < 0.1
    return (rows[~held], columns[~held]), (rows[held], columns[held])


def recall(best, held, seen_items):
    """Recall@20 over the held-out pairs of known items; `best` has a row of items for each user."""
    truth = {}
    for u, i in zip(*held):
        if i in seen_items:
            truth.setdefault(int(u), set()).add(int(i))
    return float(np.mean([len(t & set(best.get(u, ()))) / min(len(t), 20) for u, t in truth.items()]))


def factorization():
    """An iteration at 64 factors, recommendations for everybody, and how good they are."""
    users, items = (6_039, 3_628) if not ARGS.quick else (1_200, 900)
    (rows, columns), held = shop(users, items, 98 if not ARGS.quick else 40)
    known = set(columns.tolist())
    path = FOLDER / "bought.parquet"
    pq.write_table(pa.table({"user_id": rows.astype(np.int64), "item_id": columns.astype(np.int64)}), path)
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, items))
    iterations = 15

    def peer(use_cg):
        elapsed = []
        # `implicit` has threads of its own and asks for a BLAS of one.
        with threadpool_limits(1, "blas"):
            model = implicit.als.AlternatingLeastSquares(
                factors=64, regularization=0.01, alpha=1.0, iterations=iterations, use_cg=use_cg, use_gpu=False,
                num_threads=ARGS.threads, random_state=1,
            )  # fmt: skip
            model.fit(matrix, show_progress=False, callback=lambda _i, seconds, *_: elapsed.append(seconds))
            begin = time.perf_counter()
            ids, _ = model.recommend(np.arange(users), matrix, N=20, filter_already_liked_items=True)
            ranking = time.perf_counter() - begin
        best = {u: ids[u].tolist() for u in range(users)}
        return median(elapsed[1:]) * 1000, ranking, recall(best, held, known)

    peer(True)
    conjugate, exact = peer(True), peer(False)
    train = (
        f"SELECT duration_ms FROM ML.TRAIN('als', (SELECT * FROM '{path}'), model_type => 'matrix_factorization', user => 'user_id', "
        f"item => 'item_id', factors => 64, iterations => {iterations})"
    )
    info, _ = dfml(train)
    ours = median([float(row["duration_ms"]) for row in info if row["duration_ms"]][1:])
    rank = f"SELECT user_id, item_id FROM RECOMMEND('als', (SELECT DISTINCT user_id FROM '{path}'), n => 20)"
    ranked, _ = dfml(rank)
    best = {}
    for row in ranked:
        best.setdefault(int(row["user_id"]), []).append(int(row["item_id"]))
    ours_recall = recall(best, held, known)
    count = f"SELECT count(*), sum(score) FROM RECOMMEND('als', (SELECT DISTINCT user_id FROM '{path}'), n => 20)"
    ranking = median([dfml(count)[1] for _ in range(ARGS.repeat)])

    shape = f"{users:,} × {items:,}, {len(rows):,} pairs"
    quality = f"Recall@20 {ours_recall:.4f}"
    add(f"ALS iteration, 64 factors, {shape}", "implicit (3 steps of conjugate gradients)", conjugate[0], ours, "ms",
        (f"Recall@20 {conjugate[2]:.4f}", quality), "≥ 1×")  # fmt: skip
    add(f"ALS iteration, 64 factors, {shape}", "implicit (exact)", exact[0], ours, "ms", (f"Recall@20 {exact[2]:.4f}", quality))
    add("20 recommendations for every user", "implicit, in a running program; dfml, the whole process", conjugate[1], ranking, "s")


def scoring():
    """CHURN_SCORE over Parquet, against reading its columns."""
    rows = size(10_000_000)
    path = FOLDER / "customers.parquet"

    def share(salt):
        return f"((hash(i * 16 + {salt}) % 1000003)::DOUBLE / 1000003)"

    duckdb.sql(
        f"COPY (SELECT {share(1)} * 72 AS tenure, 20 + {share(2)} * 100 AS monthly, {share(3)} * 8000 AS total, {share(4)} * 30 AS logins, "
        f"CASE WHEN {share(5)} < 0.02 THEN NULL ELSE {share(6)} * 10 END AS tickets, "
        f"['month-to-month', 'one year', 'two year'][1 + (hash(i * 16 + 7) % 3)::INT] AS contract, "
        f"['card', 'cheque', 'transfer', 'wallet'][1 + (hash(i * 16 + 8) % 4)::INT] AS payment, "
        f"CASE WHEN {share(9)} < 0.6 - {share(1)} * 0.5 THEN 'Yes' ELSE 'No' END AS churned FROM range({rows}) t(i)) TO '{path}'"
    )
    dfml(
        f"SELECT loss FROM ML.TRAIN('churn', (SELECT * FROM '{path}' LIMIT 200000), model_type => 'logistic_reg', label => 'churned', "
        "folds => 0)"
    )
    columns = "tenure, monthly, total, logins, tickets, contract, payment"
    read = f"SELECT sum(tenure), sum(monthly), sum(total), sum(logins), sum(tickets), max(contract), max(payment) FROM '{path}'"
    score = f"SELECT avg(CHURN_SCORE('churn', {columns})) AS mean FROM '{path}'"
    dfml(read)
    reading, ours, mean = [], [], None
    for _ in range(ARGS.repeat):
        reading.append(dfml(read)[1])
        answer, seconds = dfml(score)
        ours.append(seconds)
        mean = float(answer[0]["mean"])
    add(f"CHURN_SCORE of {rows:,} rows, 5 numbers and 2 texts", "dfml reading the columns", median(reading), median(ours), "s",
        ("", f"mean score {mean:.4f}"), "≥ 0.67×")  # fmt: skip


def cpu_name():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def report():
    header = ("task", "peer", "peer's time", "dfml", "peer ÷ dfml", "peer's quality", "dfml's quality", "asked for")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in TABLE]
    blas = sorted({f"{i['internal_api']} {i['version']} ({i.get('architecture', '?')})" for i in threadpool_info() if i["user_api"] == "blas"})
    version, _ = run([ARGS.dfml, "--version"])
    machine = [
        "# Peers, side by side in one run",
        "",
        f"{date.today()}, {cpu_name()}, both sides on {ARGS.threads} of {os.cpu_count()} cores, medians of {ARGS.repeat} runs"
        + (", small data (`--quick`)" if ARGS.quick else "")
        + f". {version.strip()}; scikit-learn {sklearn.__version__}, implicit {implicit.__version__}, DuckDB {duckdb.__version__}, "
        f"numpy {np.__version__}; BLAS: {', '.join(blas) or 'none'}.",
        "",
        "More than 1× means that dfml is faster. Repeat with "
        + ("`cargo build --release && python benches/peers.py`." if "debug" not in ARGS.dfml
           else "`cargo build && python benches/peers.py --dfml target/debug/dfml`: the profile of every day, not a release build."),
        "",
    ]
    text = "\n".join(machine + lines) + "\n"
    print("\n" + text)
    if ARGS.write:
        Path(ARGS.write).parent.mkdir(parents=True, exist_ok=True)
        Path(ARGS.write).write_text(text)


def main():
    global FOLDER
    parts = {"kmeans": kmeans_passes, "pipeline": pipeline, "als": factorization, "score": scoring}
    chosen = ARGS.only.split(",")
    if unknown := set(chosen) - set(parts):
        sys.exit(f"there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    ARGS.dfml = str(Path(ARGS.dfml).resolve())
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(folder)
        for name in chosen:
            parts[name]()
        report()


if __name__ == "__main__":
    main()
