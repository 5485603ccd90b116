"""One filter per file: each checks one property and returns ``Keep()`` or ``Drop(filter, reason)``.

``intake`` judges prompts before any teacher call, ``completions`` judges the teacher's completions. A reason is one short
fixed phrase, because rows are counted by reason.
"""
