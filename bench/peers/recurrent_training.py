"""Our training of recurrent networks beside PyTorch's: the same data, order, initial weights and optimiser.

usage: recurrent_training.py PROGRAM [--epochs N] [--threads N] [--networks lstm,gru,two-bi-lstm]

PROGRAM is the compiled bench/recurrent_training.cpp. Prints the mean training loss of each epoch by both, and
the median seconds of an epoch, by the clock and of processor time (all threads together: on a busy machine the
fairer figure with one thread; with more, PyTorch's waiting threads count too).
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy
import torch

STEPS = 20


class Recurrent(torch.nn.Module):
    """The network of one bench; `take` reads the next so many numbers of the program's file."""

    def __init__(self, name, take):
        super().__init__()
        self.over_rows = name == "two-bi-lstm"
        kind, inputs, units, levels = {
            "lstm": (torch.nn.LSTM, 70, 64, 1),
            "gru": (torch.nn.GRU, 40, 32, 1),
            "two-bi-lstm": (torch.nn.LSTM, 1, 116, 2),
        }[name]
        gates = 3 if name == "gru" else 4
        self.cell = kind(inputs, units, num_layers=levels, bidirectional=self.over_rows)
        parameters = dict(self.cell.named_parameters())
        for level in range(levels):
            width = inputs if level == 0 else 2 * units
            for suffix in ["", "_reverse"] if self.over_rows else [""]:
                def name_of(kind):
                    return f"{kind}_l{level}{suffix}"
                # Two biases where we have one: PyTorch's second stays 0, but for the part that a GRU needs.
                second = numpy.zeros(gates * units, numpy.float32)
                values = {
                    name_of("weight_ih"): take(gates * units, width),
                    name_of("weight_hh"): take(gates * units, units),
                    name_of("bias_ih"): take(gates * units),
                    name_of("bias_hh"): second,
                }
                mask = torch.zeros(gates * units)
                if name == "gru":
                    second[2 * units:] = take(units)
                    mask[2 * units:] = 1
                with torch.no_grad():
                    for key, value in values.items():
                        parameters[key].copy_(torch.from_numpy(value))
                parameters[name_of("bias_hh")].register_hook(lambda gradient, mask=mask: gradient * mask)
        sizes = [(2 * units, 1)] if self.over_rows else [(units, 32), (32, 1)]
        self.dense = torch.nn.ModuleList(torch.nn.Linear(*size) for size in sizes)
        with torch.no_grad():
            for (columns, rows), layer in zip(sizes, self.dense):
                layer.weight.copy_(torch.from_numpy(take(rows, columns)))
                layer.bias.copy_(torch.from_numpy(take(rows)))

    def forward(self, steps):
        """steps: time x batch x inputs. Logits: batch x questions."""
        if self.over_rows:
            _, (last, _) = self.cell(steps)
            values = torch.cat([last[-2], last[-1]], dim=1).unsqueeze(0)
        else:
            # What is asked before step t knows the steps before t.
            values, _ = self.cell(steps[:-1])
            values = torch.cat([torch.zeros_like(values[:1]), values])
        for layer in self.dense[:-1]:
            values = torch.relu(layer(values))
        return self.dense[-1](values).squeeze(2).transpose(0, 1)


def trained_by_torch(name, path, ours):
    """The mean loss and the seconds of each epoch."""
    sessions = ours["sessions"]
    content = open(path, "rb")

    def take(*shape, kind=numpy.float32):
        count = int(numpy.prod(shape))
        return numpy.frombuffer(content.read(4 * count), kind).reshape(shape).copy()

    over_rows = name == "two-bi-lstm"
    shape = (sessions, ours["row_features"], 1) if over_rows else (sessions, STEPS, ours["step_features"])
    steps = torch.from_numpy(take(*shape))
    targets = torch.from_numpy(take(sessions, 1 if over_rows else STEPS))
    orders = [torch.from_numpy(take(sessions, kind=numpy.int32)).long() for _ in ours["epochs"]]
    network = Recurrent(name, take)
    assert not content.read(1), "the file holds more than the network has"
    weights = [p for key, p in network.named_parameters() if "weight" in key]
    biases = [p for key, p in network.named_parameters() if "bias" in key]
    optimiser = torch.optim.AdamW([{"params": weights, "weight_decay": ours["weight_decay"]},
                                   {"params": biases, "weight_decay": 0}], lr=ours["rate"], fused=True)
    epochs = []
    for order in orders:
        start, used = time.perf_counter(), time.process_time()
        total = 0.0
        for batch in order.split(ours["batch"]):
            optimiser.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                network(steps[batch].transpose(0, 1).contiguous()), targets[batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), ours["clip"])
            optimiser.step()
            total += loss.item() * len(batch)
        epochs.append({"loss": total / sessions, "seconds": time.perf_counter() - start,
                       "processor": time.process_time() - used})
    return epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", default="lstm,gru,two-bi-lstm")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {options.epochs} epochs\n")
    print("network      epoch   loss here  PyTorch's")
    times = []
    for name in options.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "start")
            command = [options.program, name, path, str(options.epochs), str(options.threads)]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            theirs = trained_by_torch(name, path, ours)
        for epoch, (a, b) in enumerate(zip(ours["epochs"], theirs), 1):
            print(f"{name:12} {epoch:5}   {a['loss']:.6f}   {b['loss']:.6f}")
        times.append((name, ours["epochs"], theirs))
    print("\nnetwork      median of an epoch  here, s  PyTorch's   share")
    for name, ours, theirs in times:
        for kind in ["seconds", "processor"]:
            here, there = (statistics.median(e[kind] for e in epochs) for epochs in (ours, theirs))
            print(f"{name:12} {kind:18} {here:8.3f} {there:10.3f}   {here / there:.2f}")



if __name__ == "__main__":
    main()
