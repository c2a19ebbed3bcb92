"""Running learning-rate sweeps of finite networks over width and vocabulary, as resumable stores."""
