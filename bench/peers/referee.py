"""Trains scikit-learn and LightGBM on the features that our runtime computes, on our own splits, and prints
their figures beside ours.

A recipe of ours and its peer see the same float32 numbers, the same training rows and the same held-out rows;
rows that we set aside to stop early by are training rows for the peer. Ours is measured on the finished blob,
through the C API. Seeds are given, not chosen.
"""

import argparse
import csv
import ctypes
import json
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)

import lightgbm
import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC

from measuring import ROOT, size_text, table_text

TOLERANCE = 0.003  # how far behind a peer's mean accuracy or AUC ours may be
FIGURES = ("accuracy", "auc", "log_loss")

# Recipe and variant, as `recipe` or `recipe:variant`; the peer follows from the recipe.
SYSTEMS = [
    "hit-logistic", "hit-logistic:min-max", "hit-logistic:per-feature",
    "hit-svm", "hit-svm:min-max", "hit-svm:per-feature",
    "hit-network",
    "hit-forest", "hit-forest:since-2000",
    "hit-boosted", "hit-boosted:decade", "hit-boosted:symmetric",
]


class LightGBM:
    """100 trees of 31 leaves; the time includes binning, as ours does."""

    def __init__(self, seed):
        self.parameters = {
            "objective": "binary", "num_leaves": 31, "learning_rate": 0.09, "num_threads": THREADS,
            "seed": seed, "verbosity": -1,
        }

    def fit(self, features, target):
        rows = lightgbm.Dataset(features, target)
        self.booster = lightgbm.train(self.parameters, rows, num_boost_round=100)

    def predict_proba(self, features):
        positive = self.booster.predict(features)
        return numpy.column_stack([1 - positive, positive])


def make_peer(recipe, seed):
    return {
        "hit-logistic": lambda: LogisticRegression(max_iter=10000),
        "hit-svm": lambda: LinearSVC(dual=False, max_iter=10000, random_state=seed),
        # All 500 epochs, as published; stopping early makes it worse.
        "hit-network": lambda: MLPClassifier(
            (14, 120, 80), batch_size=2000, learning_rate_init=0.001, max_iter=500, n_iter_no_change=500,
            random_state=seed),
        "hit-forest": lambda: RandomForestClassifier(200, max_depth=25, n_jobs=THREADS, random_state=seed),
        "hit-boosted": lambda: LightGBM(seed),
    }[recipe]()


def recipe_file(recipe):
    return ROOT / "converter/recipes" / (recipe + ".toml")


def read_features(path):
    """The training and the held-out rows of `tonearm features`, each as (features, target)."""
    with open(path, newline="") as file:
        lines = csv.reader(file)
        assert next(lines)[:2] == ["split", "target"]
        lines = list(lines)
    # An empty cell is a missing value.
    features = numpy.array([[float(cell or "nan") for cell in line[2:]] for line in lines], numpy.float32)
    target = numpy.array([int(line[1]) for line in lines])
    held_out = numpy.array([line[0] == "held_out" for line in lines])
    return (features[~held_out], target[~held_out]), (features[held_out], target[held_out])


def measure_peer(peer, train, held_out):
    """Trains a peer; its figures on the held-out rows. A machine without probabilities has no log loss."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        # 500 epochs are what was asked for, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(*train)
    seconds = time.perf_counter() - start
    features, target = held_out
    if hasattr(peer, "predict_proba"):
        probability = peer.predict_proba(features)[:, 1]
        decision = probability >= 0.5
        loss = log_loss(target, numpy.clip(probability, 1e-7, 1 - 1e-7))
        score = probability
    else:
        score = peer.decision_function(features)
        decision = score >= 0
        loss = None
    size = len(peer.booster.model_to_string()) if isinstance(peer, LightGBM) else len(pickle.dumps(peer))
    return {
        "accuracy": float(numpy.mean(decision == target)), "auc": float(roc_auc_score(target, score)),
        "log_loss": loss, "seconds": seconds, "bytes": size,
    }


def measure_ours(tonearm, recipe, variant, seed, data, blob):
    """Trains a recipe of ours; the figures of its blob on the held-out rows."""
    report = blob.with_suffix(".json")
    command = [
        tonearm, "train", recipe_file(recipe), "--data", data, "--seed", str(seed), "--threads", str(THREADS),
        "--out", blob, "--json", report]
    subprocess.run(command + variant, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(report.read_text())
    return {
        "accuracy": figures["shipped"]["accuracy"], "auc": figures["shipped"]["auc"],
        "log_loss": figures["shipped"]["log_loss"], "seconds": figures["train_seconds"],
        "bytes": figures["blob_bytes"],
    }


def lightgbm_latency(booster, rows, folder):
    """Warm and cold nanoseconds of LightGBM's fastest call for one row, one thread."""
    library = folder / "single_row.so"
    source = ROOT / "bench/peers/single_row.c"
    subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    time_rows = ctypes.CDLL(str(library)).time_rows
    time_rows.restype = ctypes.c_double

    native = lightgbm.basic._LIB
    rows = numpy.ascontiguousarray(rows[:1024], numpy.float32)
    config = ctypes.c_void_p()
    status = native.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(0),
        ctypes.c_int32(rows.shape[1]), ctypes.c_char_p(b"num_threads=1"), ctypes.byref(config))
    if status != 0:
        raise RuntimeError("LightGBM's single-row call could not be set up")
    call = ctypes.cast(native.LGBM_BoosterPredictForMatSingleRowFast, ctypes.c_void_p)
    eviction = ctypes.create_string_buffer(96 << 20)

    def measure(rounds, evict_size):
        result = time_rows(
            call, config, rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(len(rows)),
            ctypes.c_int(rows.shape[1]), ctypes.c_int(rounds), eviction, ctypes.c_size_t(evict_size))
        if result < 0:
            raise RuntimeError("LightGBM's single-row call failed")
        return result

    figures = measure(51, 0), measure(201, len(eviction))
    native.LGBM_FastConfigFree(config)
    return figures


def mean(rows, side, figure):
    values = [row[side][figure] for row in rows]
    return None if None in values else statistics.fmean(values)


def ahead(ours, peer):
    """How far ours is above the peer's; None where one of them has no such figure."""
    return None if ours is None or peer is None else ours - peer


def figure_text(value, form="%.4f"):
    return "" if value is None else form % (round(value, 4) + 0.0)  # + 0.0: no "-0.0000"


def report(results):
    """The tables and the verdict. `results` maps a system to its rows, one per seed, each with `ours` and
    `peer`."""
    quality, far = [], []
    for system, rows in results.items():
        means = {side: {figure: mean(rows, side, figure) for figure in FIGURES} for side in ("ours", "peer")}
        for row in rows + [{"seed": "mean", **means}]:
            cells = [system, str(row["seed"])]
            for figure in FIGURES:
                ours, peer = row["ours"][figure], row["peer"][figure]
                cells += [figure_text(ours), figure_text(peer), figure_text(ahead(ours, peer), "%+.4f")]
            quality.append(cells)
        for figure in ("accuracy", "auc"):
            lag = -ahead(means["ours"][figure], means["peer"][figure])
            if lag > TOLERANCE:
                far.append("%s (%s, %.4f behind)" % (system, figure, lag))
    costs = []
    for system, rows in results.items():
        ours, peer = mean(rows, "ours", "seconds"), mean(rows, "peer", "seconds")
        costs.append([system, "%.2f" % ours, "%.2f" % peer, "%.2f" % (ours / peer),
                      size_text(mean(rows, "ours", "bytes")), size_text(mean(rows, "peer", "bytes"))])

    verdict = "Every mean accuracy and AUC is at most .003 behind its peer's: " + (
        "yes" if not far else "NO: " + ", ".join(far))
    beside = ["peer", "ours - peer"]
    quality_header = ["system", "seed", "accuracy", *beside, "AUC", *beside, "log loss", *beside]
    costs_header = ["system", "training s", "peer s", "ratio", "blob", "peer's file"]
    return table_text(quality_header, quality) + "\n" + table_text(costs_header, costs), verdict


def latency_report(blob, booster, rows, folder):
    command = [ROOT / "build/release/bin/latency", blob, "--json", "-"]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)[0]
    warm, cold = lightgbm_latency(booster, rows, folder)
    return table_text(["one row, 100 x 31 leaves", "warm ns", "cold ns"], [
        ["ours, from the raw row", "%.0f" % ours["evaluate_warm_ns"], "%.0f" % ours["evaluate_cold_ns"]],
        ["LightGBM, single-row-fast", "%.0f" % warm, "%.0f" % cold]])


def run(data, seeds, systems, folder):
    tonearm = ROOT / "build/release/bin/tonearm"
    folder.mkdir(parents=True, exist_ok=True)
    results, latency = {}, ""
    for system in systems:
        recipe, _, name = system.partition(":")
        variant = ["--variant", name] if name else []
        results[system] = []
        for seed in seeds:
            print("%s, seed %d" % (system, seed), file=sys.stderr)
            stem = "%s-%d" % (system.replace(":", "-"), seed)
            features, blob = folder / (stem + ".csv"), folder / (stem + ".tarm")
            command = [tonearm, "features", recipe_file(recipe), "--data", data, "--seed", str(seed)]
            subprocess.run(command + ["--out", features] + variant, check=True, stdout=subprocess.DEVNULL)
            train, held_out = read_features(features)
            features.unlink()
            peer = make_peer(recipe, seed)
            results[system].append({
                "seed": seed, "ours": measure_ours(tonearm, recipe, variant, seed, data, blob),
                "peer": measure_peer(peer, train, held_out)})
            if system == "hit-boosted" and not latency:
                latency = "\n" + latency_report(blob, peer.booster, held_out[0], folder)
    tables, verdict = report(results)
    text = tables + latency + "\n" + verdict + "\n"
    (folder / "peers.md").write_text(text)
    (folder / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    print(text, end="")
    return 0 if verdict.endswith("yes") else 1


def self_check():
    """Every peer on a small made-up pattern, and the verdict on figures whose outcome is known."""
    random = numpy.random.default_rng(1)
    features = random.random((2600, 5), numpy.float32)
    target = (features[:, 0] + 0.2 * random.standard_normal(2600) > 0.5).astype(int)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sides = ["train"] * 2350 + ["validation"] * 50 + ["held_out"] * 200
        with open(folder / "features.csv", "w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["split", "target", *"abcde"])
            lines.writerows([side, label, *row] for side, label, row in zip(sides, target, features))
        train, held_out = read_features(folder / "features.csv")
        assert numpy.array_equal(train[0], features[:2400]) and numpy.array_equal(held_out[1], target[2400:])

        results = {}
        for recipe in dict.fromkeys(system.partition(":")[0] for system in SYSTEMS):
            peer = make_peer(recipe, 1)
            figures = measure_peer(peer, train, held_out)
            assert figures["accuracy"] > 0.75 and figures["auc"] > 0.8, (recipe, figures)
            results[recipe] = [{"seed": 1, "ours": dict(figures), "peer": figures}]
        warm, cold = lightgbm_latency(peer.booster, held_out[0], folder)
        assert 0 < warm < cold, (warm, cold)

    tables, verdict = report(results)
    assert verdict.endswith("yes"), verdict
    results["hit-forest"][0]["ours"]["auc"] -= 0.0031
    assert "NO: hit-forest (auc, 0.0031 behind)" in report(results)[1]
    results["hit-forest"][0]["ours"]["auc"] += 0.1
    assert report(results)[1].endswith("yes")
    print(tables + "\nself-check passed")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="bench/peers/run",
                                     description="Our recipes beside scikit-learn and LightGBM.")
    parser.add_argument("--data", help="folder of hit tracks")
    parser.add_argument("--seeds", default="1,2,3", help="splits and chance, separated by commas (1,2,3)")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="RECIPE or RECIPE:VARIANT, by commas")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/peers", help="folder to work in")
    parser.add_argument("--self-check", action="store_true", help="try this script on made-up numbers")
    options = parser.parse_args()
    if options.self_check:
        return self_check()
    if options.data is None:
        parser.error("--data is missing: the folder of hit tracks")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    return run(options.data, seeds, options.systems.split(","), options.out)


if __name__ == "__main__":
    sys.exit(main())
