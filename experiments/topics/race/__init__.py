"""Rules for the embedding learning rate, tuned at a small width and run at a large one."""
