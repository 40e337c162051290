"""The main job: a company's rows into a specialist that it owns, compared honestly and recorded row by row."""
