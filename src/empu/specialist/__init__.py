"""The main job: tune a specialist on a company's rows, compare it on test rows, and record every row and score."""
