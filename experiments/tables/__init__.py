"""Tables of runs as people have them: formats, columns and cells, and what makes groups."""
