"""The labs, one module each: see ``lab.py`` beside this folder."""
