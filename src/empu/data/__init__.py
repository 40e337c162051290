"""Read a company's files, map their columns, check the rows, and split them."""
