"""What the commands of `tieline` do, a module each with `command(given)`.

With `cli`, the only modules that know the other packages.
"""
