"""The explorer: one HTML file in which the theory's regimes can be looked at by moving sliders.

`formulas` says which derived expressions it evaluates, `javascript` prints them, `facts` holds
everything else that the page knows from the Python side, and `page` puts the file together.
"""
