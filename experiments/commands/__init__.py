"""The commands: `dynsim NAME` is the module NAME, its options and its `run`."""
