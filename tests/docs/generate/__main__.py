"""Write every generated page that differs from what is on disk, and print its path."""

from tests.docs.generate.pages import PAGES, ROOT, is_current

for path, make in PAGES.items():
    text = make()
    if not is_current(path, text):
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
