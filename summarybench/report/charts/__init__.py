"""The charts of the HTML page, one file each: SVG by matplotlib, without scripts."""
