"""What connectors share, so that each file on the shelf is about its vendor alone.

    api            a connector to one web API: where it is, and which hosts it may ask
    tokens         Authorization that is fetched or signed on the way
    shapes         a vendor's answers, hostile until they are parsed
    paging         cursors that must lead on, newest-first lists, spans of time, several questions at once
    details        records whose words cost a call of their own
    pending        records that were not ready yet
    tickets        when a ticket is done, and so goes out
    conversation   meetings, tickets and reviews as the text a person would read
    people         who is who in a meeting, as far as addresses tell
    templates      settings that are worked out for each item, in a sandbox
    markup         HTML and quoted mail as plain text
    captions       WebVTT and SRT as what was said, by whom
    adf            Atlassian documents as plain text

A connector imports these and `syncd.connector`, and nothing else of the house.
"""
