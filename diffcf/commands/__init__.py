"""The commands of ``diffcf``, one file each; :mod:`diffcf.commands.main` finds them by name."""
