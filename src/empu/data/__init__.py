"""A company's files in: reading them, naming what they hold, checking it, and dividing it into parts."""
