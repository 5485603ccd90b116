"""One filter a file: each looks at one thing and says ``Keep()`` or ``Drop(filter, reason)``.

``intake`` judges prompts before any teacher sees them, ``completions`` judges what teachers answer. A reason is one short
stable phrase, because counts are made over it.
"""
