"""The what-if explorer, ``diffcf app WEIGHTS``: a web page to set factors and see the image change.

Without a user interface: :mod:`~diffcf.app.gallery` has the images to ask about,
:mod:`~diffcf.app.session` what one visitor set, and :mod:`~diffcf.app.inference` the answers. With
NiceGUI (extra ``[app]``): :mod:`~diffcf.app.view` is the page, made of :mod:`~diffcf.app.elements`,
and :mod:`~diffcf.app.page` serves it.
"""
