"""Pages that change conf.d: tables as forms, files as text, and launches with their undo."""
