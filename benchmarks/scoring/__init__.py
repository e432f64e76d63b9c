"""Scoring: rates of a task, whole runs, many samples, and the limits that rates are compared with."""
