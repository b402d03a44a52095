#!/usr/bin/env python3
"""Writes the data and the expected values of tests/integration/linear_goldens.rs into this folder: linear and logistic regression, with
and without penalties, many classes, principal components, and their metrics.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 statsmodels==0.15.0
    venv/bin/python tests/goldens/make_linear.py

Each expectation is worked out twice, by another program (statsmodels, scikit-learn) and in a few lines of numpy by another way, and the
script refuses to write where the two differ by more than 1e-9 of the value (1e-7 under an L1 penalty), or where an answer hangs by a hair.

The conventions: numbers are standardised by mean and deviation of the known values of the training rows, NULL is their mean; categories
are one-hot, NULL is one of them, and one that no training row has weighs 0. Where no penalty decides, the coefficients of each feature's
categories add up to 0.
"""

import csv
import json
from pathlib import Path

import numpy as np
import scipy
import sklearn
import statsmodels
import statsmodels.api as sm
from scipy import stats
from sklearn import metrics
from sklearn.decomposition import PCA
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

HERE = Path(__file__).parent
NUMBERS = ["area", "age", "distance"]
TEXTS = ["town", "style"]
NULL = "_null_filler"


def write_csv(name, header, rows):
    with open(HERE / name, "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if v is None else repr(float(v)) if isinstance(v, float) else v for v in row] for row in rows)


def agree(what, one, other, tolerance=1e-9, tiny=1e-4):
    """Refuses two answers that differ by more than a share of the value, or of a tiny share of the largest where that is more."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert one.shape == other.shape and np.isfinite(one).all() and np.isfinite(other).all(), what
    size = np.maximum(np.abs(one), np.abs(other))
    off = np.abs(one - other) / np.maximum(size, max(tiny * size.max(), 1e-300))
    assert off.max() <= tolerance, f"{what}: {off.max()}"
    return one


# -------------------------------------------------------------------------------------------------------------------- data
def houses():
    rng = np.random.default_rng(20)
    n = 300
    exact = lambda x: np.round(x * 64) / 64  # noqa: E731
    area = exact(40 + rng.gamma(3, 400, n))
    age = exact(rng.uniform(0, 120, n))
    distance = exact(rng.exponential(2.0, n))
    town = rng.choice(["east", "north", "west"], n, p=[0.5, 0.3, 0.2])
    style = rng.choice(["brick", "glass", "stone", "wood"], n, p=[0.35, 0.15, 0.2, 0.3])
    z = [(v - v.mean()) / v.std() for v in (area, age, distance)]
    price = 260 + 25 * z[0] - 11 * z[1] - 2 * z[2] + 16 * (town == "north") - 9 * (style == "wood") + 6 * (style == "glass")
    price = exact(np.maximum(price + 30 * rng.standard_normal(n), 1))
    logit = 0.3 + 0.7 * z[0] - 0.5 * z[1] + 0.1 * z[2] + 0.6 * (town == "west") - 0.7 * (style == "brick")
    sold = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "yes", "no")
    kinds = np.array(["cabin", "flat", "house", "villa"])
    score = [0.1 - 0.5 * z[0], 1.2 + 0.4 * z[1] + 0.8 * (town == "east"), 0.5 + 0.5 * z[0]]
    score = np.column_stack([*score, -0.3 + 0.7 * z[0] - 0.6 * z[1] + 0.5 * (style == "stone")])
    kind = kinds[(score + rng.gumbel(size=score.shape)).argmax(1)]
    held = rng.random(n) < 0.25
    columns = {name: values.astype(object) for name, values in zip(NUMBERS + TEXTS, [area, age, distance, town, style])}
    columns |= {"price": price.astype(object), "sold": sold.astype(object), "kind": kind.astype(object), "held": held}
    shares = {"area": 0.06, "distance": 0.1, "town": 0.14, "style": 0.12, "price": 0.07, "sold": 0.05, "kind": 0.04}
    for name, share in shares.items():
        columns[name][rng.random(n) < share] = None
    # A style that no training row has.
    columns["style"][np.flatnonzero(held)[:3]] = "mud"
    return columns


class Design:
    """The encoded columns of all rows, as the training rows have them."""

    def __init__(self, data, train, sample=False):
        self.means, self.scales, numbers = [], [], []
        for name in NUMBERS:
            known = np.array([v for v, t in zip(data[name], train) if t and v is not None], float)
            mean, scale = known.mean(), known.std(ddof=1 if sample else 0)
            self.means.append(mean)
            self.scales.append(scale)
            numbers.append(np.array([0.0 if v is None else (v - mean) / scale for v in data[name]]))
        self.means, self.scales = np.array(self.means), np.array(self.scales)
        self.numbers = np.column_stack(numbers)
        self.categories = {}
        hot, contrasts = [], []
        for name in TEXTS:
            found = [None, *sorted({v for v, t in zip(data[name], train) if t and v is not None})]
            one_hot = np.array([[v == c for c in found] for v in data[name]], float)
            assert (one_hot[train].sum(0) >= 5).all()
            self.categories[name] = [NULL if c is None else c for c in found]
            hot.append(one_hot)
            # The last coefficient is minus the sum of the others.
            contrasts.append(one_hot @ np.vstack([np.eye(len(found) - 1), -np.ones(len(found) - 1)]))
        self.hot = np.column_stack(hot)
        self.contrasts = np.column_stack(contrasts)
        self.train = train

    def one_hot(self):
        return np.column_stack([self.numbers, self.hot])

    def of_full_rank(self):
        """The intercept, numbers, and categories whose coefficients add up to 0."""
        return np.column_stack([np.ones(len(self.numbers)), self.numbers, self.contrasts])

    def spread(self):
        """Takes coefficients of `of_full_rank` to (intercept, numbers, all categories)."""
        blocks = [np.eye(1 + len(NUMBERS))]
        blocks += [np.vstack([np.eye(len(c) - 1), -np.ones(len(c) - 1)]) for c in self.categories.values()]
        return scipy.linalg.block_diag(*blocks)

    def sums(self):
        """One row for each feature of categories: what is held at 0, over (intercept, numbers, all categories)."""
        sizes = [len(c) for c in self.categories.values()]
        out = np.zeros((len(sizes), 1 + len(NUMBERS) + sum(sizes)))
        at = 1 + len(NUMBERS)
        for row, size in zip(out, sizes):
            row[at : at + size] = 1
            at += size
        return out

    def named(self, intercept, numbers, categories):
        """Values by the names of what they belong to."""
        out = {"__INTERCEPT__": intercept}
        out |= {name: numbers[i] for i, name in enumerate(NUMBERS)}
        at = 0
        for name, found in self.categories.items():
            out[name] = {c: categories[at + i] for i, c in enumerate(found)}
            at += len(found)
        return out

    def weights(self, intercept, coefficients):
        """As ML.WEIGHTS shows them, of standardised numbers and in the units of the data."""
        k = len(NUMBERS)
        slopes = coefficients[:k] / self.scales
        return {
            "standardized": self.named(intercept, coefficients[:k], coefficients[k:]),
            "original": self.named(intercept - slopes @ self.means, slopes, coefficients[k:]),
        }


# ----------------------------------------------------------------------------------------------------------------- metrics
def regression_metrics(y, p):
    absolute = np.sort(np.abs(y - p))
    out = {
        "mean_absolute_error": metrics.mean_absolute_error(y, p),
        "mean_squared_error": metrics.mean_squared_error(y, p),
        "mean_squared_log_error": metrics.mean_squared_log_error(y, p),
        "median_absolute_error": absolute[(len(absolute) - 1) // 2],
        "r2_score": metrics.r2_score(y, p),
        "explained_variance": metrics.explained_variance_score(y, p),
    }
    by_hand = [
        np.abs(y - p).sum() / len(y),
        ((y - p) ** 2).sum() / len(y),
        (np.log((1 + y) / (1 + p)) ** 2).sum() / len(y),
        [a for a in absolute if (absolute <= a).sum() * 2 >= len(y)][0],
        1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum(),
        1 - np.var(y - p) / np.var(y),
    ]
    agree("regression metrics", list(out.values()), by_hand)
    return {name: float(v) for name, v in out.items()}


def auc(score, positive):
    """Pairs in the right order, ties half."""
    high, low = score[positive], score[~positive]
    assert np.abs(high[:, None] - low[None])[high[:, None] != low[None]].min() > 1e-9, "the order of two rows hangs by a hair"
    return ((high[:, None] > low).sum() + 0.5 * (high[:, None] == low).sum()) / (len(high) * len(low))


def two_class_metrics(y, p, threshold):
    assert np.abs(p - threshold).min() > 1e-5, "a row lies at the threshold"
    said = p >= threshold
    out = {
        "precision": metrics.precision_score(y, said),
        "recall": metrics.recall_score(y, said),
        "accuracy": metrics.accuracy_score(y, said),
        "f1_score": metrics.f1_score(y, said),
        "log_loss": metrics.log_loss(y, p),
        "roc_auc": metrics.roc_auc_score(y, p),
    }
    hit = (said & y).sum()
    by_hand = [hit / said.sum(), hit / y.sum(), (said == y).sum() / len(y), 2 * hit / (said.sum() + y.sum())]
    by_hand += [-np.log(np.where(y, p, 1 - p)).sum() / len(y), auc(p, y)]
    agree("metrics of two classes", list(out.values()), by_hand)
    return {name: float(v) for name, v in out.items()}


def many_class_metrics(classes, y, p):
    """Means over the classes, each counting the same, but for accuracy."""
    best = np.sort(p, axis=1)
    assert (best[:, -1] - best[:, -2]).min() > 1e-5, "two classes are about as likely"
    said = p.argmax(1)
    precision, recall, f1, loss, area = [], [], [], [], []
    for c in range(len(classes)):
        of_class, of_said = y == c, said == c
        hit = (of_class & of_said).sum()
        precision.append(hit / of_said.sum() if of_said.any() else 0.0)
        recall.append(hit / of_class.sum())
        f1.append(2 * hit / (of_class.sum() + of_said.sum()))
        loss.append(-np.log(p[of_class, c]).mean())
        area.append(auc(p[:, c], of_class))
    by_hand = [np.mean(precision), np.mean(recall), (said == y).mean(), np.mean(f1), np.mean(loss), np.mean(area)]
    size = np.bincount(y)
    out = {
        "precision": metrics.precision_score(y, said, average="macro", zero_division=0),
        "recall": metrics.recall_score(y, said, average="macro"),
        "accuracy": metrics.accuracy_score(y, said),
        "f1_score": metrics.f1_score(y, said, average="macro"),
        # Each class weighs the same, however many rows it has.
        "log_loss": metrics.log_loss(y, p, sample_weight=1 / size[y]),
        "roc_auc": metrics.roc_auc_score(y, p, multi_class="ovr", average="macro"),
    }
    agree("metrics of many classes", list(out.values()), by_hand)
    return {name: float(v) for name, v in out.items()}


# ------------------------------------------------------------------------------------------------------------- linear models
def inferred(design, beta, covariance, freedom):
    """Weights, errors and p-values of (intercept, numbers, categories) with standardised numbers, and in units of the data; by
    the t distribution where there are degrees of freedom."""
    k = 1 + len(NUMBERS)
    error = np.sqrt(np.diag(covariance))
    z = np.abs(beta) / error
    p_normal = 2 * stats.norm.sf(z)
    agree("normal p-values", p_normal, scipy.special.erfc(z / np.sqrt(2)), tiny=0)
    p_t = None
    if freedom is not None:
        p_t = 2 * stats.t.sf(z, freedom)
        agree("p-values of t", p_t, scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + z**2)), tiny=0)

    out = {
        **design.weights(beta[0], beta[1:]),
        "standard_error": {
            "standardized": design.named(error[0], error[1:k], error[k:]),
            # The intercept's belongs to standardised numbers.
            "original": design.named(None, error[1:k] / design.scales, error[k:]),
        },
        # The same in either unit, but for the intercept's.
        "p_normal": design.named(p_normal[0], p_normal[1:k], p_normal[k:]),
    }
    return out | ({} if p_t is None else {"p_t": design.named(p_t[0], p_t[1:k], p_t[k:])})


def least_squares(design, y, known):
    """statsmodels on a design of full rank; and one-hot columns under Lagrange multipliers."""
    x = design.of_full_rank()
    fit = sm.OLS(y[known], x[known]).fit()
    spread = design.spread()
    beta, covariance = spread @ fit.params, spread @ fit.cov_params() @ spread.T
    hot = np.column_stack([np.ones(len(x)), design.one_hot()])
    sums = design.sums()
    w, m = hot.shape[1], len(sums)
    bordered = np.block([[hot[known].T @ hot[known], sums.T], [sums, np.zeros((m, m))]])
    inverse = np.linalg.inv(bordered)[:w, :w]
    other = inverse @ (hot[known].T @ y[known])
    error = y[known] - hot[known] @ other
    freedom = known.sum() - (w - m)
    assert freedom == fit.df_resid
    agree("least squares", beta, other)
    agree("covariance", covariance, inverse * (error @ error / freedom), 1e-8)
    agree("standard errors", np.sqrt(np.diag(covariance)), np.sqrt(np.diag(inverse) * (error @ error / freedom)))
    k = 1 + len(NUMBERS)
    t = other / np.sqrt(np.diag(inverse) * (error @ error / freedom))
    agree("p-values", 2 * stats.t.sf(np.abs(t[:k]), freedom), fit.pvalues[:k], tiny=0)
    return beta, covariance, freedom, agree("predictions", x @ fit.params, hot @ other)


def soft_threshold(v, by):
    return np.sign(v) * np.maximum(np.abs(v) - by, 0)


def proximal(loss_gradient, curvature, width, l1, l2, steps=400_000):
    """Accelerated proximal gradient steps from 0, restarted where they overshoot; the intercept first, without a penalty."""
    beta, ahead, t = np.zeros(width), np.zeros(width), 1.0
    length = 1 / (curvature + l2)
    free = np.arange(width) == 0
    for _ in range(steps):
        gradient = loss_gradient(ahead) + l2 * np.where(free, 0, ahead)
        raw = ahead - length * gradient
        new = np.where(free, raw, soft_threshold(raw, l1 * length))
        if (ahead - new) @ (new - beta) > 0:
            t = 1.0
        following = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = new + (t - 1) / following * (new - beta)
        if np.abs(new - beta).max() < 1e-15 * np.abs(new).max() and t > 50:
            break
        beta, t = new, following
    return beta


def certified(beta, gradient, hessian, l1, l2):
    """Newton steps on the coefficients that are not 0, and the conditions of the optimum, which no other point fulfils."""
    beta = beta.copy()
    beta[np.abs(beta) < 1e-7] = 0
    free = np.arange(len(beta)) == 0
    sign = np.where(free, 0, np.sign(beta))
    active = free | (beta != 0)
    for _ in range(20):
        g = (gradient(beta) + np.where(free, 0, l2 * beta) + l1 * sign)[active]
        h = (hessian(beta) + l2 * np.diag(np.where(free, 0.0, 1.0)))[np.ix_(active, active)]
        # The shortest step: categories and intercept may be free to move against each other.
        beta[active] -= np.linalg.lstsq(h, g, rcond=1e-12)[0]
    assert (np.sign(beta)[active & ~free] == sign[active & ~free]).all()
    slope = gradient(beta) + np.where(free, 0, l2 * beta)
    assert np.abs(slope + l1 * sign)[active].max() < 1e-8
    assert np.abs(slope[~active]).max(initial=0) < l1 * (1 - 1e-4), "a coefficient hangs between 0 and not"
    return beta


def sparse(what, design, peer, x, gradient, hessian, curvature, l1, l2):
    """A fit under L1: the peer's, then certified; and from 0 in our own way. Where l2 = 0, an even number of categories may move
    together against the intercept: fitted values and the sum of absolute coefficients are certain even so."""
    best = certified(peer, gradient, hessian, l1, l2)
    own = proximal(gradient, curvature, len(peer), l1, l2)
    for other in (peer, own):
        agree(f"{what}: fitted values", x @ best, x @ other, 1e-7)
        agree(f"{what}: the sum of absolute values", np.abs(best[1:]).sum(), np.abs(other[1:]).sum(), 1e-7)
        agree(f"{what}: numbers", best[1 : 1 + len(NUMBERS)], other[1 : 1 + len(NUMBERS)], 1e-7)
        if l2 > 0:
            agree(f"{what}: coefficients", best, other, 1e-7)
    out = {"l1": l1, "l2": l2, "absolute_sum": float(np.abs(best[1:]).sum()), **design.weights(best[0], best[1:])}
    out["zeros"] = int((best == 0).sum())
    print(f"{what}: {out['zeros']} of {len(best)} coefficients are 0")
    return out, x @ best


def linear(data, expected):
    y = np.array([np.nan if v is None else v for v in data["price"]], float)
    labelled = ~np.isnan(y)
    known = labelled & ~data["held"]
    others = labelled & data["held"]
    design = Design(data, known)
    beta, covariance, freedom, predicted = least_squares(design, y, known)
    expected["ols"] = predicted
    out = {
        "degrees_of_freedom": int(freedom),
        "ols": {
            **inferred(design, beta, covariance, freedom),
            "train": regression_metrics(y[known], predicted[known]),
            "held": regression_metrics(y[others], predicted[others]),
        },
    }
    assert (predicted > -1).all()

    x = np.column_stack([np.ones(len(y)), design.one_hot()])
    l2 = 3.0
    ridge = Ridge(alpha=l2, solver="svd").fit(x[known, 1:], y[known])
    stacked = np.vstack([x[known], np.sqrt(l2) * np.eye(x.shape[1])[1:]])
    beta = np.linalg.lstsq(stacked, np.concatenate([y[known], np.zeros(x.shape[1] - 1)]), rcond=None)[0]
    agree("ridge", beta, [ridge.intercept_, *ridge.coef_])
    expected["ridge"] = x @ beta
    out["ridge"] = {
        "l2": l2,
        **design.weights(beta[0], beta[1:]),
        "train": regression_metrics(y[known], (x @ beta)[known]),
        "held": regression_metrics(y[others], (x @ beta)[others]),
    }

    gram = x[known].T @ x[known]
    curvature = np.linalg.eigvalsh(gram)[-1]
    for name, l1, l2 in [("lasso", 250.0, 0.0), ("lasso_weak", 5.0, 0.0), ("elastic_net", 5.0, 3.0), ("elastic_net_strong", 100.0, 3.0)]:
        n = known.sum()
        peer = ElasticNet(alpha=(l1 + l2) / n, l1_ratio=l1 / (l1 + l2), tol=1e-15, max_iter=1_000_000).fit(x[known, 1:], y[known])
        peer = np.array([peer.intercept_, *peer.coef_])
        found, expected[name] = sparse(
            name, design, peer, x, lambda b: gram @ b - x[known].T @ y[known], lambda b: gram, curvature, l1, l2
        )
        out[name] = found
    return out


# ----------------------------------------------------------------------------------------------------------- logistic models
def newton(x, y, ridge, sums=None):
    """Newton's method for the summed log loss + ½ Σ ridge β², under sums that are 0 (Lagrange); the bordered inverse too."""
    w = x.shape[1]
    sums = np.zeros((0, w)) if sums is None else sums
    beta = np.zeros(w)
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (p - y) + ridge * beta
        hessian = x.T @ (x * (p * (1 - p))[:, None]) + np.diag(ridge)
        bordered = np.block([[hessian, sums.T], [sums, np.zeros((len(sums), len(sums)))]])
        beta = beta - np.linalg.solve(bordered, np.concatenate([gradient, sums @ beta]))[:w]
    return beta, np.linalg.inv(bordered)[:w, :w]


def logistic(data, expected):
    labelled = np.array([v is not None for v in data["sold"]])
    y = data["sold"] == "yes"
    known = labelled & ~data["held"]
    others = labelled & data["held"]
    design = Design(data, known)
    full = design.of_full_rank()
    fit = sm.Logit(y[known].astype(float), full[known]).fit(method="newton", tol=1e-15, maxiter=100, disp=False)
    spread = design.spread()
    beta, covariance = spread @ fit.params, spread @ fit.cov_params() @ spread.T
    x = np.column_stack([np.ones(len(y)), design.one_hot()])
    other, inverse = newton(x[known], y[known], np.zeros(x.shape[1]), design.sums())
    agree("logistic", beta, other)
    agree("logistic standard errors", np.sqrt(np.diag(covariance)), np.sqrt(np.diag(inverse)))
    p = 1 / (1 + np.exp(-full @ fit.params))
    agree("logistic probabilities", p, 1 / (1 + np.exp(-x @ other)))
    expected["sold"] = p
    # A likelihood has no residual deviation to estimate, and so no t distribution.
    out = {"plain": inferred(design, beta, covariance, None)}
    for threshold in (0.5, 0.3):
        out["plain"][f"train_at_{threshold}"] = two_class_metrics(y[known], p[known], threshold)
        out["plain"][f"held_at_{threshold}"] = two_class_metrics(y[others], p[others], threshold)

    l2 = 3.0
    peer = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(x[known, 1:], y[known])
    beta, _ = newton(x[known], y[known], np.array([0.0] + [l2] * (x.shape[1] - 1)))
    agree("ridge logistic", beta, [peer.intercept_[0], *peer.coef_[0]])
    expected["sold_ridge"] = 1 / (1 + np.exp(-x @ beta))
    out["ridge"] = {"l2": l2, **design.weights(beta[0], beta[1:])}

    def gradient(b):
        return x[known].T @ (1 / (1 + np.exp(-x[known] @ b)) - y[known])

    def hessian(b):
        p = 1 / (1 + np.exp(-x[known] @ b))
        return x[known].T @ (x[known] * (p * (1 - p))[:, None])

    curvature = np.linalg.eigvalsh(x[known].T @ x[known])[-1] / 4
    for name, l1, l2 in [("lasso", 4.0, 0.0), ("elastic_net", 2.0, 3.0)]:
        peer = LogisticRegression(C=1 / (l1 + l2), l1_ratio=l1 / (l1 + l2), solver="saga", tol=1e-13, max_iter=200_000, random_state=1)
        peer = peer.fit(x[known, 1:], y[known])
        peer = np.array([peer.intercept_[0], *peer.coef_[0]])
        out[name], sums = sparse(f"logistic {name}", design, peer, x, gradient, hessian, curvature, l1, l2)
        expected[f"sold_{name}"] = 1 / (1 + np.exp(-sums))
    return out


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def softmax_newton(x, y, classes, ridge):
    """Newton's method over all classes' coefficients, the shortest steps where they may move together; the intercept first."""
    w = x.shape[1]
    beta = np.zeros((classes, w))
    target = np.eye(classes)[y]
    for _ in range(80):
        p = softmax(x @ beta.T)
        gradient = (p - target).T @ x + ridge * beta
        hessian = np.zeros((classes, w, classes, w))
        for a in range(classes):
            for b in range(classes):
                weight = p[:, a] * ((a == b) - p[:, b])
                hessian[a, :, b, :] = x.T @ (x * weight[:, None]) + (a == b) * np.diag(ridge)
        beta = beta - np.linalg.lstsq(hessian.reshape(classes * w, -1), gradient.ravel(), rcond=1e-11)[0].reshape(classes, w)
    assert np.abs(gradient).max() < 1e-9
    return beta


def many_classes(data, expected):
    labelled = np.array([v is not None for v in data["kind"]])
    classes = sorted({v for v in data["kind"] if v is not None})
    y = np.array([classes.index(v) if v is not None else -1 for v in data["kind"]])
    known, others = labelled & ~data["held"], labelled & data["held"]
    assert len(set(np.bincount(y[known]))) == len(classes)
    design = Design(data, known)
    cells = np.array([design.hot[known & (y == c)].sum(0) for c in range(len(classes))])
    assert cells.min() >= 1, "no class without a category: its coefficient would be infinite without a penalty"
    x = np.column_stack([np.ones(len(y)), design.one_hot()])
    l2 = 2.0
    peer = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(x[known, 1:], y[known])
    peer = np.column_stack([peer.intercept_ - peer.intercept_.mean(), peer.coef_])
    beta = softmax_newton(x[known], y[known], len(classes), np.array([0.0] + [l2] * (x.shape[1] - 1)))
    beta[:, 0] -= beta[:, 0].mean()
    agree("softmax", beta, peer)
    assert np.abs(beta.sum(0)).max() < 1e-9
    p = softmax(x @ beta.T)
    agree("softmax probabilities", p, softmax(x @ peer.T))

    full = design.of_full_rank()
    plain = sm.MNLogit(y[known], full[known]).fit(method="newton", tol=1e-15, maxiter=200, disp=False)
    scores = np.column_stack([np.zeros(len(y)), full @ plain.params])
    by_hand = softmax_newton(full[known], y[known], len(classes), np.zeros(full.shape[1]))
    assert np.abs(by_hand).max() < 10, "two classes are almost apart"
    q = softmax(scores)
    agree("unpenalised softmax", q, softmax(full @ by_hand.T))
    for i, name in enumerate(classes):
        expected[f"kind_ridge_{name}"] = p[:, i]
        expected[f"kind_plain_{name}"] = q[:, i]
    return {
        "classes": classes,
        "counts": np.bincount(y[known]).tolist(),
        "ridge": {
            "l2": l2,
            "weights": {name: design.weights(b[0], b[1:]) for name, b in zip(classes, beta)},
            "train": many_class_metrics(classes, y[known], p[known]),
            "held": many_class_metrics(classes, y[others], p[others]),
        },
        "plain": {
            "train": many_class_metrics(classes, y[known], q[known]),
            "held": many_class_metrics(classes, y[others], q[others]),
        },
    }


# ------------------------------------------------------------------------------------------------------------------------ PCA
def components(data, expected):
    train = ~data["held"]
    design = Design(data, train, sample=True)
    n, count = train.sum(), 3
    out = {}
    for name, x in [
        ("scaled", design.one_hot()),
        ("unscaled", np.column_stack([design.numbers * design.scales, design.hot])),
        ("numbers", design.numbers),
    ]:
        values, vectors = np.linalg.eigh(x[train].T @ x[train] / (n - 1))
        values, vectors = values[::-1], vectors[:, ::-1]
        next_values = np.append(values, 0)[1 : count + 1]
        assert (values[:count] - next_values > 0.01 * values[:count]).all(), "two components are about as strong"
        _, singular, right = np.linalg.svd(x[train], full_matrices=False)
        agree("eigenvalues", values[:count], (singular**2 / (n - 1))[:count])
        signs = np.sign((vectors[:, :count] * right[:count].T).sum(0))
        agree("loadings", vectors[:, :count], right[:count].T * signs, 1e-9)
        share = values / values.sum()
        if name == "numbers":
            # The mean stands for a NULL, so that the columns' means are 0 after it, too.
            peer = PCA(count, svd_solver="full").fit(x[train])
            agree("eigenvalues of scikit-learn", values[:count], peer.explained_variance_)
            agree("ratios of scikit-learn", share[:count], peer.explained_variance_ratio_)
            agree("loadings of scikit-learn", np.abs(vectors[:, :count]), np.abs(peer.components_.T))
            agree("projections of scikit-learn", np.abs(x @ vectors[:, :count]), np.abs(peer.transform(x)))
        k = len(NUMBERS)
        out[name] = {
            "eigenvalues": values[:count],
            "explained_variance_ratio": share[:count],
            "cumulative_explained_variance_ratio": np.cumsum(share[:count]),
            # Up to a sign for each component.
            "loadings": [
                {name_: v[i] for i, name_ in enumerate(NUMBERS)} if name == "numbers" else design.named(None, v[:k], v[k:])
                for v in vectors[:, :count].T
            ],
        }
        for loading in out[name]["loadings"]:
            loading.pop("__INTERCEPT__", None)
        for i in range(count):
            expected[f"pca_{name}_{i + 1}"] = x @ vectors[:, i]
    return out


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    data = houses()
    expected = {}
    result = {
        "made_with": f"scikit-learn {sklearn.__version__}, statsmodels {statsmodels.__version__}, scipy {scipy.__version__}",
        "linear": linear(data, expected),
        "logistic": logistic(data, expected),
        "many_classes": many_classes(data, expected),
        "pca": components(data, expected),
    }
    order = [*NUMBERS, *TEXTS, "price", "sold", "kind"]
    write_csv(
        "houses.csv",
        ["id", *order, "held"],
        [[i + 1, *[data[c][i] for c in order], "true" if data["held"][i] else "false"] for i in range(len(data["held"]))],
    )
    write_csv(
        "houses_expected.csv",
        ["id", *expected],
        [[i + 1, *[float(v[i]) for v in expected.values()]] for i in range(len(data["held"]))],
    )
    (HERE / "houses.json").write_text(json.dumps(plain(result), indent=1) + "\n")
