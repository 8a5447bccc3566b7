"""Programs for developers; ``dev.py`` runs most of them."""
