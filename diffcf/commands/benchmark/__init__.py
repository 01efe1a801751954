"""Many methods, many seeds, one protocol: ``diffcf benchmark experiments/benchmarks/*.yaml``.

:mod:`diffcf.benchmark.grid` says what is compared, :mod:`diffcf.benchmark.runner` runs one cell of
it, :mod:`diffcf.benchmark.search` looks for hyper-parameters on the validation split, and
:mod:`diffcf.benchmark.command` is the command.
"""
