"""One allele: the picture of its tensor (``show``), and the page that says why it has its score (``explain``)."""
