"""Empu turns a company's own rows into a Llama-family model that the company owns.

Importing this package does no work and loads no third-party library.
"""

__version__ = "0.1.0"
