"""Networks of the course: training, evaluation, prediction, and the settings of the engine beneath them."""

import os

# TensorFlow switches its oneDNN kernels on by itself only on processors with AVX-512; with AVX2 alone, as most laptops
# have, a U-Net step without them takes 2.6 times as long. Has to be set before TensorFlow is imported; a user's own
# setting wins.
ENGINE = {"TF_ENABLE_ONEDNN_OPTS": "1"}

for _name, _value in ENGINE.items():
    os.environ.setdefault(_name, _value)
