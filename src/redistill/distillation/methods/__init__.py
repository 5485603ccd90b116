"""Ways to distil: one ``finetune.method`` a file, all on the same rows, batches and training loop.

A new method is a new file here: its settings (a ``MethodParams`` with a name) and its ``Method``. ``redistill.distillation.methods.all_methods`` imports
it. Nothing in these files may import torch at the top, because the command line reads the settings.
"""
