"""Calls TensorFlow Lite Micro and prints what it answers, a line each. In a program of its own, with little to import,
because Valgrind runs it too.

    device_micro.py MODEL.tflite INPUTS.npy CALLS
"""

import pathlib
import sys

import numpy
from tflite_micro.python.tflite_micro import runtime

model, inputs, calls = sys.argv[1:]
interpreter = runtime.Interpreter.from_bytes(pathlib.Path(model).read_bytes(), arena_size=300000)
for call in numpy.load(inputs, allow_pickle=True)[:int(calls)]:
    interpreter.reset()  # forgets the state, where the model keeps it
    for i, values in enumerate(call):
        interpreter.set_input(values, i)
    interpreter.invoke()
    print(" ".join(repr(float(number)) for number in interpreter.get_output(0).ravel()))
