"""Trains LightGBM on the feature vectors that our runtime computes while it replays listening sessions, on our own
split, and prints its figures beside those of our finished blob, which is measured through the C API.

Both see the same training examples and are scored on the same held-out ones; rows that we set aside to stop early by
are training rows for the peer. LightGBM is given two settings, its usual one and a small one; neither is tuned on
the held-out sessions.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["OMP_NUM_THREADS"] = "2"

import lightgbm
import numpy
from sklearn.metrics import log_loss, roc_auc_score

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 0.003
SETTINGS = {
    "LightGBM 100 x 31, rate .09": {"num_leaves": 31, "learning_rate": 0.09},
    "LightGBM 100 x 15, rate .05": {"num_leaves": 15, "learning_rate": 0.05},
}


def tonearm(*arguments):
    subprocess.run([ROOT / "build/release/bin/tonearm", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def read_features(path):
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        kinds, targets, values = [], [], []
        for split, _, _, moment, horizon, target, *cells in rows:
            kinds.append((split, moment, int(horizon)))
            targets.append(int(target))
            values.append([float(cell) if cell else numpy.nan for cell in cells])
    return kinds, numpy.array(targets), numpy.array(values, dtype=numpy.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", required=True, help="recipe, e.g. converter/recipes/skip-history.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", default="1,2,3")
    options = parser.parse_args()
    ours, peers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for seed in map(int, options.seeds.split(",")):
            common = ["--data", options.data, "--seed", seed]
            tonearm("train", options.sessions, *common, "--out", folder / "model.tarm", "--json", folder / "ours.json")
            tonearm("features", options.sessions, *common, "--out", folder / "features.csv")
            for question in json.loads((folder / "ours.json").read_text())["held_out"]["questions"]:
                if question["system"] == "model" and not question["after_first"]:
                    ours.setdefault((question["moment"], question["horizon"]), []).append(question)
            kinds, targets, values = read_features(folder / "features.csv")
            training = numpy.array([kind[0] != "held_out" for kind in kinds])
            for name, setting in SETTINGS.items():
                booster = lightgbm.train(
                    {"objective": "binary", "num_threads": 2, "verbosity": -1, "seed": seed, **setting},
                    lightgbm.Dataset(values[training], targets[training]), num_boost_round=100)
                for question in ours:
                    chosen = numpy.array([kind == ("held_out", *question) for kind in kinds])
                    probability, target = booster.predict(values[chosen]), targets[chosen]
                    peers.setdefault((name, question), []).append({
                        "rows": len(target), "accuracy": float(((probability >= 0.5) == target).mean()),
                        "auc": roc_auc_score(target, probability), "log_loss": log_loss(target, probability)})

    mean = lambda figures, name: sum(figure[name] for figure in figures) / len(figures)
    print(f"mean over seeds {options.seeds}; {options.sessions}\n")
    print(f"  {'question':<22}{'system':<30}{'tracks':>8}{'accuracy':>10}{'AUC':>8}{'log loss':>10}")
    behind = 0
    for question in sorted(ours, key=lambda key: (key[1], key[0])):
        systems = [("ours, the blob", ours[question])] + [(name, peers[name, question]) for name in SETTINGS]
        for name, figures in systems:
            label = f"{question[0]}, horizon {question[1]}" if name == systems[0][0] else ""
            print(f"  {label:<22}{name:<30}{figures[0]['rows']:>8}{mean(figures, 'accuracy'):>10.4f}"
                  f"{mean(figures, 'auc'):>8.4f}{mean(figures, 'log_loss'):>10.4f}")
        if {figure["rows"] for _, figures in systems for figure in figures} != {ours[question][0]["rows"]}:
            sys.exit(f"{question}: the systems were not scored on the same tracks")
        for figure in ("accuracy", "auc"):
            best = max(mean(figures, figure) for _, figures in systems[1:])
            if mean(ours[question], figure) < best - TOLERANCE:
                behind += 1
                print(f"    more than {TOLERANCE} behind in {figure}: {mean(ours[question], figure) - best:+.4f}")
    print(f"\n  more than {TOLERANCE} behind LightGBM in {behind} of {2 * len(ours)} figures")


if __name__ == "__main__":
    main()
