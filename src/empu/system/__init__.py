"""The operating system: files that survive a crash, bounded strict JSON, paths, the processor."""
