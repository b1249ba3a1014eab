"""Looks at mails as a browser shows them: on a phone and on a desk, light and dark. Run by `tests/campaign mail-looks`.

    mail_looks.py MAILS PICTURES

MAILS holds the HTML forms that the test `mails_to_be_drawn` wrote. Beside each NAME.html, NAME.first has what a reader in a
hurry must find on the first screen, one a line. Each mail is drawn into PICTURES, and fails if a line is wider than the
screen, a text's contrast is below 4.5:1 (WCAG AA), the mail loads something, or the first screen of a phone lacks what
must be there. Needs chromium, which makes no request: the pages are files, and hold no address to load.
"""

import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --disable-lcd-text"
).split()
PHONE, DESK = 390, 620
SCHEMES = {"light": 1, "dark": 0}  # chromium's numbers
# What is seen of a mail on a phone without scrolling, below the mail program's own head.
FIRST_SCREEN = 640
# Two screens of a long digest show how it looks.
TALLEST = 2400

# A window has at least 500 pixels, so the mail is in a frame of the width of the screen.
FRAME = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>body { margin: 0 } iframe { display: block; border: 0; color-scheme: light dark }</style>"""

LOOK = r"""
function parts(colour) { return colour.match(/[\d.]+/g).map(Number) }
function over(top, below) {
    const alpha = top.length > 3 ? top[3] : 1
    return [0, 1, 2].map(at => top[at] * alpha + below[at] * (1 - alpha))
}
function ground(element, canvas) {
    if (!element) return canvas
    const own = parts(getComputedStyle(element).backgroundColor)
    return over(own, own.length > 3 && own[3] < 1 ? ground(element.parentElement, canvas) : [0, 0, 0])
}
function light(colour) {
    const [red, green, blue] = colour.map(part => part / 255).map(part =>
        part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}
function contrast(one, other) {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
}
function look(frame) {
    const page = frame.contentDocument, view = frame.contentWindow, texts = [], wide = []
    const dark = view.matchMedia("(prefers-color-scheme: dark)").matches
    const canvas = dark ? [18, 18, 18] : [255, 255, 255]
    const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT)
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (!node.textContent.trim()) continue
        const style = view.getComputedStyle(node.parentElement), range = page.createRange()
        range.selectNodeContents(node)
        const box = range.getBoundingClientRect(), behind = ground(node.parentElement, canvas)
        const text = node.textContent.trim().replace(/\s+/g, " ")
        if (box.right > view.innerWidth + 0.5) wide.push(text.slice(0, 60))
        texts.push({
            text, bottom: box.bottom, size: parseFloat(style.fontSize),
            contrast: Math.round(contrast(over(parts(style.color), behind), behind) * 100) / 100,
        })
    }
    return {
        mail: frame.dataset.mail, dark, width: view.innerWidth, texts, wide,
        overflow: page.documentElement.scrollWidth - view.innerWidth, height: page.documentElement.scrollHeight,
        loaded: view.performance.getEntriesByType("resource").map(entry => entry.name),
    }
}
addEventListener("load", () => {
    const seen = [...document.querySelectorAll("iframe")].map(look)
    document.body.innerHTML = "<pre></pre>"
    document.querySelector("pre").textContent = JSON.stringify(seen)
})
"""


def framed(name, text, width, height):
    return f'<iframe data-mail="{name}" width="{width}" height="{height}" srcdoc="{html.escape(text)}"></iframe>'


class Browser:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def run(self, page, scheme, *flags):
        file = self.folder / "page.html"
        file.write_text(page)
        command = ["chromium", *FLAGS, f"--user-data-dir={self.folder / 'profile'}"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *flags, file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            sys.exit(f"chromium failed: {done.stderr}")
        return done.stdout

    def look(self, mails, width, scheme):
        frames = "".join(framed(name, text, width, FIRST_SCREEN) for name, text in mails.items())
        shown = self.run(f"{FRAME}{frames}<script>{LOOK}</script>", scheme, "--dump-dom")
        seen = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", shown, re.S).group(1)))
        assert len(seen) == len(mails)
        assert all(mail["dark"] == (scheme == "dark") and mail["width"] == width for mail in seen), "the frame"
        return seen

    def draw(self, name, text, width, height, scheme, picture):
        window = f"--window-size={width},{height}"
        self.run(FRAME + framed(name, text, width, height), scheme, window, f"--screenshot={picture.resolve()}")


def loads(text):
    """What would make a mail program fetch something."""
    kinds = [r"<(?:img|link|script|iframe|object|embed|video|audio|source|base)\b", r"\b(?:src|srcset|background|poster)\s*=", r"url\(", r"@import"]
    return [found.group(0) for kind in kinds for found in re.finditer(kind, text, re.I)]


def faults(seen, first):
    if seen["overflow"] > 0 or seen["wide"]:
        yield f"is {seen['overflow']} pixels too wide: {seen['wide'][:3]}"
    for text in seen["texts"]:
        if text["contrast"] < 4.5:
            yield f"{text['text'][:60]!r} has a contrast of {text['contrast']}:1"
        if text["size"] < 12:
            yield f"{text['text'][:60]!r} is {text['size']} pixels high"
    if seen["loaded"]:
        yield f"loads {seen['loaded']}"
    above = " ".join(text["text"] for text in seen["texts"] if text["bottom"] <= FIRST_SCREEN)
    if seen["width"] == PHONE:
        yield from (f"the first screen lacks {line!r}" for line in first if line not in above)


def main():
    if not shutil.which("chromium"):
        sys.exit("mail_looks.py needs chromium: apt-get install chromium")
    folder, pictures = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    mails = {file.stem: file.read_text() for file in sorted(folder.glob("*.html"))}
    assert mails, f"no mails in {folder}"
    # Before a browser sees them.
    if found := [f"{name}: would load something: {what}" for name, text in mails.items() for what in loads(text)]:
        sys.exit("\n".join(found))
    least = 21.0
    with tempfile.TemporaryDirectory() as scratch:
        browser = Browser(scratch)
        for width in (PHONE, DESK):
            for scheme in SCHEMES:
                for seen in browser.look(mails, width, scheme):
                    name = seen["mail"]
                    first = (folder / f"{name}.first").read_text().splitlines()
                    found += [f"{name}, {width} pixels, {scheme}: {fault}" for fault in faults(seen, first)]
                    least = min([least, *(text["contrast"] for text in seen["texts"])])
                    picture = pictures / f"{name}-{width}-{scheme}.png"
                    browser.draw(name, mails[name], width, min(seen["height"], TALLEST), scheme, picture)
    for fault in dict.fromkeys(found):
        print(fault)
    print(f"{len(mails)} mails at {PHONE} and {DESK} pixels, light and dark: least contrast {least}:1, {len(found)} faults")
    print(f"pictures: {pictures}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
