"""Ways to distil: one ``finetune.method`` a file, all on the same records, batches and training loop.

Another method is another file with a ``Method`` in it, its name in ``distillation.params.MethodParams``, and its line in ``redistill.distillation.methods.build``.
"""
