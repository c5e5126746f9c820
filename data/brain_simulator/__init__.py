"""Simulated brain scans: anatomy, tumour growth, MR contrast, cohort."""
