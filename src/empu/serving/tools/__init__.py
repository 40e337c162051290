"""Tool calls: one file for each dialect in which models write them."""
