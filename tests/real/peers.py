#!/usr/bin/env python3
"""What scikit-learn reaches on the real data, where tests/real/mod.rs compares with figures that are not published with it.

    pip install scikit-learn==1.9.1 numpy==2.4.6 pandas==3.1.1
    ML_TEST_DATA=<folder> python tests/real/peers.py
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(os.environ["ML_TEST_DATA"])


def cdnow():
    rows = [
        (line[1:6], line[7:15], float(line[18:]))
        for line in (FOLDER / "cdnow.txt").read_text().splitlines()[1:]
        if line.strip()
    ]
    table = pd.DataFrame(rows, columns=["customer", "day", "dollars"])
    table["ago"] = (pd.Timestamp("1997-10-01") - pd.to_datetime(table.day, format="%Y%m%d")).dt.days
    known = table[table.ago > 0].groupby("customer")
    features = np.log1p(np.c_[known.ago.min(), known.ago.count(), known.dollars.sum()])
    label = (table.groupby("customer").ago.min() > 0).reindex(known.ago.min().index).to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    p = cross_val_predict(model, features, label, cv=folds, method="predict_proba")[:, 1]
    print(f"cdnow: {len(label)} customers, AUC {roc_auc_score(label, p):.4f}, log loss {log_loss(label, p):.4f}")


def penguins():
    table = pd.read_json(FOLDER / "penguins.jsonl", lines=True)
    columns = ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"]
    x = table[columns].astype(float)
    x = x.fillna(x.mean())
    x = ((x - x.mean()) / x.std(ddof=1)).to_numpy()
    fit = KMeans(3, n_init=50, random_state=0).fit(x)
    together = pd.crosstab(fit.labels_, table.species).max(axis=1).sum()
    print(f"penguins: inertia {fit.inertia_:.4f}, {together} of {len(x)} with the most of their species")


cdnow()
penguins()
