"""What runs inside of the sandbox. Needs the standard library and NumPy (pandas, Keras) only; imports nothing of the course."""
