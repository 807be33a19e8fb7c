"""The subcommands of clicktune, one module a group; heavy imports stay inside the functions."""
