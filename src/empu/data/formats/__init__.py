"""Table formats: CSV, JSON, Parquet, workbooks. A table of formats that installed packages can extend."""
