"""How the drop folder reads files.

folder      which files there are, and putting them away
content     the bytes of an open file: any stretch of them, and their fingerprint
memory      how far each file has been read, recognised by its content
encoding    which encoding a file is written in
lines       its physical lines, and exactly where each one ends
rows        its rows, the broken ones reported and passed over
table       its header: which columns there are, what parts them, where the rows begin
template    the operator's settings, read over a row
specs       files in the shape of the Signals import template
"""
