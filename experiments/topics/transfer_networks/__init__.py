"""How well one learning rate transfers across widths in trained networks."""
