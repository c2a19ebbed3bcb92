"""Running sweeps over learning rates, widths and vocabulary sizes, as resumable stores."""
