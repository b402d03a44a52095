#!/usr/bin/env python3
"""Writes the data and the expected values of tests/integration/goldens.rs into this folder.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 implicit==0.7.3 threadpoolctl==3.8.0
    venv/bin/python tests/goldens/make.py

Each expectation is computed by another program (scikit-learn, implicit) or in a few lines of numpy, in f64, to
convergence, and the script refuses to write data on which the answer hangs by a hair.
"""

import csv
import json
from pathlib import Path

import implicit
import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

HERE = Path(__file__).parent


def write_csv(name, header, rows):
    with open(HERE / name, "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if v is None else repr(float(v)) if isinstance(v, float) else v for v in row] for row in rows)


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------------- k-means
def by_size(labels):
    """Segment numbers from 1, the largest first. The sizes must differ, so that the numbers are certain."""
    sizes = np.bincount(labels)
    assert len(set(sizes.tolist())) == len(sizes), sizes
    order = np.argsort(-sizes)
    number = np.empty_like(order)
    number[order] = np.arange(1, len(order) + 1)
    return number[labels], order


def segments():
    rng = np.random.default_rng(7)
    centers = np.array([[1, 200, 3, 0.5], [4, 60, 8, 2.0], [6, 320, 1, 4.0], [2, 120, 9, 6.0]], float)
    spread = np.array([0.8, 40, 1.2, 0.7])
    kind = rng.choice(4, 270, p=[0.4, 0.3, 0.2, 0.1])
    x = centers[kind] + rng.standard_normal((270, 4)) * spread
    noise = rng.uniform([0, 0, 0, 0], [9, 450, 12, 8], (30, 4))
    # Multiples of 1/64 are exact in f32: narrowing changes nothing.
    x = np.round(np.abs(np.vstack([x, noise])) * 64) / 64
    x = x[rng.permutation(len(x))]
    n, k = len(x), 4
    init_rows = [0, 1, 2, 3]
    mean, deviation = x.mean(0), x.std(0, ddof=1)

    def lloyd(z):
        model = KMeans(k, init=z[init_rows], n_init=1, algorithm="lloyd", tol=0, max_iter=1000).fit(z)
        distance = np.linalg.norm(z[:, None] - model.cluster_centers_[None], axis=2)
        nearest = np.sort(distance, axis=1)
        assert (nearest[:, 1] - nearest[:, 0]).min() > 1e-4 * nearest.max(), "a row lies between two centroids"
        assert np.array_equal(distance.argmin(1), model.labels_)
        segment, order = by_size(model.labels_)
        return segment, nearest[:, 0], float((nearest[:, 0] ** 2).sum()), model.cluster_centers_[order]

    def spherical(z):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        centroids = unit[init_rows]
        labels = None
        while True:
            cosine = unit @ centroids.T
            new = cosine.argmax(1)
            if labels is not None and np.array_equal(new, labels):
                break
            labels = new
            sums = np.array([unit[labels == j].sum(0) for j in range(k)])
            centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        best = np.sort(cosine, axis=1)
        assert (best[:, -1] - best[:, -2]).min() > 1e-6, "a row lies between two directions"
        segment, _ = by_size(labels)
        distance = np.sqrt(np.maximum(1 - cosine.max(1), 0))
        return segment, distance, float((distance**2).sum()), None

    raw = lloyd(x)
    scaled = lloyd((x - mean) / deviation)
    cosine = spherical(x / np.array([8, 512, 16, 8]))
    assert not np.array_equal(raw[0], scaled[0])
    write_csv("segments.csv", ["id", "a", "b", "c", "d"], [[i + 1, *map(float, row)] for i, row in enumerate(x)])
    write_csv(
        "segments_expected.csv",
        ["id", "raw_segment", "raw_distance", "scaled_segment", "scaled_distance", "cosine_segment", "cosine_distance"],
        [
            [i + 1, int(raw[0][i]), float(raw[1][i]), int(scaled[0][i]), float(scaled[1][i]), int(cosine[0][i]), float(cosine[1][i])]
            for i in range(n)
        ],
    )
    write_json(
        "segments.json",
        {
            "made_with": f"scikit-learn {sklearn.__version__}",
            "init": x[init_rows].tolist(),
            "raw": {"inertia": raw[2], "centroids": raw[3].tolist()},
            "scaled": {"inertia": scaled[2], "centroids": (scaled[3] * deviation + mean).tolist()},
            "cosine": {"inertia": cosine[2]},
        },
    )


# ------------------------------------------------------------------------------------------------------------ logistic
def churn():
    rng = np.random.default_rng(11)
    n = 500
    tenure = rng.gamma(2, 12, n).round(1)
    spend = np.exp(rng.normal(3.5, 0.6, n)).round(2)
    visits = rng.poisson(6, n)
    plan = rng.choice(["basic", "plus", "premium"], n, p=[0.5, 0.3, 0.2])
    region = rng.choice(["north", "south", "east", "west"], n)
    autopay = rng.random(n) < 0.6
    logit = 0.4 - 0.05 * tenure + 0.012 * spend - 0.12 * visits + 0.9 * (plan == "basic") - 0.7 * autopay + 0.4 * (region == "east")
    churned = rng.random(n) < 1 / (1 + np.exp(-logit))
    numbers = {"tenure": tenure.astype(object), "spend": spend.astype(object), "visits": visits.astype(object)}
    texts = {"plan": plan.astype(object), "region": region.astype(object), "autopay": np.where(autopay, "true", "false").astype(object)}
    for column, share in [("tenure", 0.06), ("spend", 0.03)]:
        numbers[column][rng.random(n) < share] = None
    for column, share in [("plan", 0.05), ("autopay", 0.08)]:
        texts[column][rng.random(n) < share] = None

    def design(numeric, categorical):
        """Numbers scaled by the population deviation of what is known, NULL is the mean; categories one-hot, NULL is one."""
        columns = []
        for values in numeric.values():
            known = np.array([v for v in values if v is not None], float)
            filled = np.array([known.mean() if v is None else v for v in values], float)
            columns.append((filled - known.mean()) / known.std())
        for values in categorical.values():
            for category in [None, *sorted({v for v in values if v is not None})]:
                hot = np.array([v == category for v in values], float)
                if hot.any():
                    columns.append(hot)
        return np.column_stack(columns)

    y = churned.astype(int)
    x = design(numbers, texts)

    def newton(x, y, l2, weights, iterations=100):
        """Summed weighted log loss + l2/2 |beta|^2, the intercept free: the objective in plain numpy."""
        z = np.column_stack([np.ones(len(x)), x])
        beta = np.zeros(z.shape[1])
        ridge = np.diag([0.0] + [l2] * x.shape[1])
        for _ in range(iterations):
            p = 1 / (1 + np.exp(-z @ beta))
            gradient = z.T @ (weights * (p - y)) + ridge @ beta
            beta -= np.linalg.solve(z.T @ (z * (weights * p * (1 - p))[:, None]) + ridge, gradient)
        assert np.abs(gradient).max() < 1e-8
        return beta, 1 / (1 + np.exp(-z @ beta))

    def check(x, beta, **options):
        """scikit-learn must agree with the plain numpy above."""
        model = LogisticRegression(tol=1e-12, max_iter=10_000, solver="newton-cholesky", **options).fit(x, y)
        assert np.abs(np.concatenate([model.intercept_, model.coef_[0]]) - beta).max() < 1e-6, (beta, model.coef_)

    ones = np.ones(n)
    balanced = np.where(y == 1, n / (2 * y.sum()), n / (2 * (n - y.sum())))
    beta, ridge_p = newton(x, y, 1.0, ones)
    check(x, beta, C=1.0)
    beta, strong_p = newton(x, y, 25.0, ones)
    check(x, beta, C=1 / 25)
    beta, balanced_p = newton(x, y, 1.0, balanced)
    check(x, beta, C=1.0, class_weight="balanced")

    # No penalty, numbers without NULLs: coefficients in the units of the data.
    plain = np.column_stack([np.array([0.0 if v is None else v for v in numbers[c]], float) for c in ("tenure", "spend", "visits")])
    scaled = (plain - plain.mean(0)) / plain.std(0, ddof=1)
    beta, _ = newton(scaled, y, 0.0, ones)
    check(scaled, beta, C=np.inf)
    slopes = beta[1:] / plain.std(0, ddof=1)
    intercept = beta[0] - slopes @ plain.mean(0)

    columns = [*numbers.items(), *texts.items()]
    write_csv(
        "churn.csv",
        ["id", *[name for name, _ in columns], "churned"],
        [[i + 1, *[values[i] for _, values in columns], "Yes" if y[i] else "No"] for i in range(n)],
    )
    write_csv(
        "churn_expected.csv",
        ["id", "ridge", "strong", "balanced"],
        [[i + 1, float(ridge_p[i]), float(strong_p[i]), float(balanced_p[i])] for i in range(n)],
    )
    write_json(
        "churn.json",
        {
            "made_with": f"scikit-learn {sklearn.__version__}",
            "ridge": {"log_loss": log_loss(y, ridge_p), "auc": roc_auc_score(y, ridge_p)},
            "unpenalised": {"intercept": float(intercept), "tenure": float(slopes[0]), "spend": float(slopes[1]), "visits": float(slopes[2])},
        },
    )


# -------------------------------------------------------------------------------------------------------- factorization
def tastes():
    """Users by items with planted tastes: four groups of items, each user likes one most and one a little."""
    rng = np.random.default_rng(5)
    users, items, groups = 200, 60, 4
    popularity = rng.gamma(1.2, 1.0, items) + 0.15
    liking = np.full((users, groups), 0.12)
    liking[np.arange(users), rng.integers(0, groups, users)] += 2.0
    liking[np.arange(users), rng.integers(0, groups, users)] += 0.5
    group = np.arange(items) % groups
    train, held = [], []
    for u in range(users):
        weight = liking[u][group] * popularity
        bought = rng.choice(items, rng.integers(6, 16), replace=False, p=weight / weight.sum())
        held += [(u + 1, int(i) + 1) for i in bought[:3]]
        train += [(u + 1, int(i) + 1, int(rng.integers(1, 5))) for i in bought[3:]]
    assert {i for _, i in held} <= {i for _, i, _ in train}
    return users, items, train, held


def recall(scores, seen, held, n):
    scores = scores.copy()
    scores[seen.nonzero()] = -np.inf
    top = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    truth = {}
    for u, i in held:
        truth.setdefault(u - 1, set()).add(i - 1)
    return float(np.mean([len(t & set(top[u])) / len(t) for u, t in truth.items()]))


def als(ratings, factors, alpha, l2, unobserved, exponent, iterations, seed):
    """Exact alternating least squares in f64. Minimises, over x and y,

        sum_observed (a0 + alpha r)(1 - x.y)^2 + sum_unobserved a0 (x.y)^2 + sum_rows l2 (n_row + a0 N)^exponent |x|^2

    (Hu et al. 2008; the scaled regularisation of Rendle et al., "Revisiting the Performance of iALS", 2021), with N the
    size of the other side.
    """
    rng = np.random.default_rng(seed)
    users, items = ratings.shape
    x, y = np.zeros((users, factors)), rng.standard_normal((items, factors)) * 0.1
    observed = ratings > 0

    def half(r, seen, other):
        base = unobserved * other.T @ other
        out = np.zeros((r.shape[0], factors))
        for u in range(r.shape[0]):
            at = np.flatnonzero(seen[u])
            f, w = other[at], alpha * r[u, at]
            ridge = l2 * (len(at) + unobserved * r.shape[1]) ** exponent
            out[u] = np.linalg.solve(base + f.T @ (f * w[:, None]) + ridge * np.eye(factors), f.T @ (w + unobserved))
        return out

    for _ in range(iterations):
        x = half(ratings, observed, y)
        y = half(ratings.T, observed.T, x)
    return half(ratings, observed, y) @ y.T


def factorization():
    users, items, train, held = tastes()
    r = np.zeros((users, items))
    for u, i, q in train:
        r[u - 1, i - 1] += q
    seen = sp.csr_matrix((r > 0).astype(np.float32))
    popular = np.tile((r > 0).sum(0).astype(float), (users, 1))

    # `implicit`, the best of a small search, five seeds.
    best = (0.0, None)
    for factors in (4, 8, 16):
        for l2 in (0.01, 0.1, 1.0):
            for alpha in (1.0, 5.0):
                got = []
                for seed in range(5):
                    model = implicit.als.AlternatingLeastSquares(
                        factors=factors, regularization=l2, alpha=alpha, iterations=15, random_state=seed, use_gpu=False,
                        use_cg=False, num_threads=1, dtype=np.float64,
                    )
                    model.fit(sp.csr_matrix(r), show_progress=False)
                    got.append(recall(model.user_factors @ model.item_factors.T, seen, held, 5))
                best = max(best, (float(np.median(got)), {"factors": factors, "l2": l2, "alpha": alpha}), key=lambda b: b[0])

    # One factor, to the fixed point: the optimum does not depend on where it starts, so its scores are the loss's own.
    fixed = {"factors": 1, "alpha": 2.0, "l2": 0.5, "unobserved_weight": 0.3, "frequency_exponent": 0.5}
    runs = [np.abs(als(r, 1, 2.0, 0.5, 0.3, 0.5, 400, seed)) for seed in range(4)]
    assert max(np.abs(run - runs[0]).max() for run in runs) < 1e-9
    scores = runs[0]

    l2 = 20.0
    unit = (r > 0).astype(float)
    gram = unit.T @ unit
    inverse = np.linalg.inv(gram + l2 * np.eye(items))
    b = -inverse / np.diag(inverse)
    np.fill_diagonal(b, 0)
    ease = unit @ b

    def tops(scores, gap, n=10):
        """The best items of ten users whose scores are further apart than f32 could blur."""
        out = {}
        for u in range(users):
            row = np.where(r[u] > 0, -np.inf, scores[u])
            order = np.argsort(-row, kind="stable")[: n + 1]
            if -np.diff(row[order]).max() > gap and len(out) < 10:
                out[str(u + 1)] = [[int(i) + 1, float(row[i])] for i in order[:n]]
        assert len(out) == 10, len(out)
        return out

    write_csv("tastes.csv", ["user_id", "item_id", "quantity"], train)
    write_csv("tastes_held_out.csv", ["user_id", "item_id"], held)
    write_json(
        "tastes.json",
        {
            "made_with": f"implicit {implicit.__version__}, numpy {np.__version__}",
            "recall_at_5": {"popularity": recall(popular, seen, held, 5), "implicit": best[0], "ease": recall(ease, seen, held, 5)},
            "implicit_options": best[1],
            "fixed_point": {"options": fixed, "top": tops(scores, 1e-4)},
            "ease": {"l2": l2, "top": tops(ease, 1e-5)},
        },
    )


if __name__ == "__main__":
    segments()
    churn()
    factorization()
