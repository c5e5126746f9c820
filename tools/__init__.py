"""What turns the lessons into notebooks, runs them and reports what they measured."""
