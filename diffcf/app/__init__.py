"""The what-if explorer, ``diffcf app WEIGHTS``: a web page to set factors and see the image change.

:mod:`diffcf.app.session` is what one visitor asks, :mod:`diffcf.app.drawing` answers it and
:mod:`diffcf.app.gallery` holds the images to ask about: all without a user interface.
:mod:`diffcf.app.page` is the page, by NiceGUI (extra ``[app]``).
"""
