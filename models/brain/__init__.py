"""The brain tumour network: architecture, patches, training, evaluation."""
