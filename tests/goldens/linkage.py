#!/usr/bin/env python3
"""Writes linkage.csv into this folder: points, and what scipy makes of them.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1
    venv/bin/python tests/goldens/linkage.py

A line is one of
    data,<name>,<numbers a point>
    point,<weight>,<numbers>
    heights,<linkage>,<heights of the merges of the points, ascending>
    cut,<linkage>,<k>,<cluster of each point, numbered in the order of their first points>
Weights are what repeating the rows makes of them; the merges of the repeated rows, at height 0, are left out. The script
refuses to write cuts that hang by a hair.
"""

from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import cut_tree
from scipy.cluster.hierarchy import linkage

LINKAGES = ["ward", "average", "complete", "single"]


def exact(x):
    """Multiples of 1/64 are exact in f32: narrowing changes nothing."""
    return np.round(x * 64) / 64


def by_first(labels):
    numbers = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def section(name, points, weights, has_cuts):
    n = len(points)
    lines = [f"data,{name},{points.shape[1]}"]
    lines += [",".join(["point", str(w)] + [repr(float(v)) for v in p]) for p, w in zip(points, weights)]
    rows = np.repeat(points, weights, axis=0)
    first_rows = np.concatenate([[0], np.cumsum(weights)[:-1]])
    for method in LINKAGES:
        z = linkage(rows, method)
        repeats = len(rows) - n
        assert (z[:repeats, 2] == 0).all()
        heights = z[repeats:, 2]
        lines.append(",".join(["heights", method] + [repr(float(h)) for h in heights]))
        if has_cuts:
            gaps = np.diff(heights)[-6:] / heights[-6:]
            assert gaps.min() > 1e-3, (name, method, gaps)
            for k in range(2, 7):
                labels = cut_tree(z, n_clusters=k).ravel()[first_rows]
                lines.append(",".join(["cut", method, str(k)] + [str(c) for c in by_first(labels)]))
    return lines


def blobs(rng, n, d):
    centres = rng.uniform(-6, 6, (5, d))
    return exact(centres[rng.integers(0, 5, n)] + rng.standard_normal((n, d)))


def copies(rng):
    """One shape at four places, moved exactly, and five of its points twice: distances tie, heights do not depend on how
    ties are broken."""
    shape = exact(rng.standard_normal((6, 2)))
    places = np.array([[0, 0], [40, 3], [-17, 55], [90, -64]], float)
    points = np.concatenate([shape + place for place in places])
    return np.concatenate([points, points[[0, 5, 7, 13, 20]]])


def main():
    rng = np.random.default_rng(11)
    lines = section("plain", blobs(rng, 60, 3), np.ones(60, int), True)
    lines += section("weighted", blobs(rng, 60, 3), rng.integers(1, 8, 60), True)
    tied = copies(rng)
    lines += section("tied", tied, np.ones(len(tied), int), False)
    (Path(__file__).parent / "linkage.csv").write_text("\n".join(lines) + "\n")


main()
