"""What theory says of the transfer of one learning rate, up to infinite width."""
