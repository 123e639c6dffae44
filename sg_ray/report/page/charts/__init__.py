"""Charts as inline SVG, without any library: colours and fonts come from the page's style sheet.

A chart with axes has a fixed view box, narrow enough to be read on a phone. A strip has none: its
positions are percentages, so dots and text keep their size at every width.
"""
