"""The chest X-ray network: architecture, images, training, calibration, evaluation."""
