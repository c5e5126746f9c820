"""Simulated chest X-rays: anatomy, projection, findings, devices, patients, cohort."""
