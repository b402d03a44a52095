#!/usr/bin/env python3
"""Writes ratings, and how well a reference predicts those held out, into this folder: ratings.csv and ratings.json.

    python -m venv venv && venv/bin/pip install numpy==2.4.6
    OPENBLAS_NUM_THREADS=1 venv/bin/python tests/goldens/make_ratings.py

The reference is alternating least squares in f64, straight from the objective; each of its errors is the median of several random
starts, and the script refuses to write where the starts are further apart than the test allows for.
"""

import csv
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
USERS, ITEMS, RATINGS, RANK = 200, 120, 6000, 4


def ratings():
    """Biases and planted tastes with noise, in halves of a star; popular items and active users have most. A fifth is held out."""
    rng = np.random.default_rng(9)
    user_bias, item_bias = rng.normal(0, 0.45, USERS), rng.normal(0, 0.6, ITEMS)
    x = rng.normal(0, 1, (USERS, RANK))
    y = rng.normal(0, 1, (ITEMS, RANK)) * np.array([0.5, 0.4, 0.3, 0.25])
    share = np.outer(rng.gamma(1.5, 1, USERS) + 0.2, rng.gamma(1.2, 1, ITEMS) + 0.15)
    cells = rng.choice(USERS * ITEMS, RATINGS, replace=False, p=(share / share.sum()).ravel())
    u, i = cells // ITEMS, cells % ITEMS
    r = 3.4 + user_bias[u] + item_bias[i] + (x[u] * y[i]).sum(1) + rng.normal(0, 0.5, RATINGS)
    return u, i, np.round(r * 2) / 2, rng.random(RATINGS) < 0.2


def als(u, i, r, factors, l2, exponent, iterations, seed):
    """Minimises, over x, y and the biases b,

        sum (r - mean - b_u - b_i - x_u.y_i)^2 + l2 sum_rows n_row^exponent (|factors|^2 + bias^2)

    where a row is a user or an item and n_row its number of ratings; a row's bias is solved together with its factors.
    """
    rng = np.random.default_rng(seed)
    mean = r.mean()
    y, item_bias = rng.uniform(-1, 1, (ITEMS, factors)) * 0.1 * np.sqrt(3 / factors), np.zeros(ITEMS)

    def half(rows, row_of, column_of, f, column_bias):
        out, bias = np.zeros((rows, factors)), np.zeros(rows)
        for row in range(rows):
            at = np.flatnonzero(row_of == row)
            if len(at):
                z = np.column_stack([f[column_of[at]], np.ones(len(at))])
                ridge = l2 * len(at) ** exponent * np.eye(factors + 1)
                solved = np.linalg.solve(z.T @ z + ridge, z.T @ (r[at] - mean - column_bias[column_of[at]]))
                out[row], bias[row] = solved[:factors], solved[factors]
        return out, bias

    for _ in range(iterations):
        x, user_bias = half(USERS, u, i, y, item_bias)
        y, item_bias = half(ITEMS, i, u, x, user_bias)
    return lambda u, i: mean + user_bias[u] + item_bias[i] + (x[u] * y[i]).sum(1)


def main():
    u, i, r, held = ratings()
    train = ~held

    def error(predict):
        return float(np.sqrt(np.mean((predict(u[held], i[held]) - r[held]) ** 2)))

    def reference(factors, l2, exponent):
        errors = [error(als(u[train], i[train], r[train], factors, l2, exponent, 20, seed)) for seed in range(7)]
        middle = float(np.median(errors))
        # What the median of five other starts may differ by.
        assert np.abs(np.sort(errors)[2:5] / middle - 1).max() < 0.006, (factors, l2, exponent, errors)
        return {"factors": factors, "l2": l2, "frequency_exponent": exponent, "rmse": middle}

    # log2 of the number of training ratings: what 'auto' is.
    auto = round(np.log2(train.sum()))
    cases = {
        "plain": reference(RANK, 2.0, 0.0),
        "weighted": reference(RANK, 0.1, 1.0),
        "default": reference(auto, 1.0, 0.5),
    }
    biases = error(als(u[train], i[train], r[train], 1, 1.0, 0.5, 1, 0))
    with open(HERE / "ratings.csv", "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["user_id", "item_id", "rating", "held_out"])
        writer.writerows([int(a) + 1, int(b) + 1, float(c), str(bool(d)).lower()] for a, b, c, d in zip(u, i, r, held))
    value = {
        "made_with": f"numpy {np.__version__}",
        "train": int(train.sum()),
        "held_out": int(held.sum()),
        "deviation": float(r[held].std()),
        "one_factor_one_iteration": biases,
        "reference": cases,
    }
    (HERE / "ratings.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
