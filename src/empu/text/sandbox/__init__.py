"""The sandbox in which chat templates of model files run, with limits on steps, time and output."""
