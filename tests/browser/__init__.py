"""The console in Chromium, with a real relay between the stand-ins of Braze and Heap."""
