"""The report of a callset (``evaluate``, ``run`` and ``report``): contents, sentences, tables, drawings, page."""
