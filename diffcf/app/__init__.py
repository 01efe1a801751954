"""The what-if explorer, ``diffcf app WEIGHTS``: a web page to set factors and see the image change.

Without a user interface: :mod:`~diffcf.app.gallery` has the images to ask about,
:mod:`~diffcf.app.asking` what is asked as text, :mod:`~diffcf.app.session` what one visitor set,
:mod:`~diffcf.app.inference` the answers, :mod:`~diffcf.app.link` the addresses of answers, and
:mod:`~diffcf.app.explorer` what all visitors share. With NiceGUI (extra ``[app]``):
:mod:`~diffcf.app.view` is the page, made of :mod:`~diffcf.app.elements`, rows for factors and
panels; :mod:`~diffcf.app.controller` runs one tab, and :mod:`~diffcf.app.page` serves it.
"""
