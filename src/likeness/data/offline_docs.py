"""Make great_expectations' Data Docs stand alone: no network, and bytes that depend on the content only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

from likeness.core.io import write_text

_EPOCH_FOLDER = "20000101T000000.000000Z"
# What the pages use of Bootstrap and Font Awesome; everything that collapses is shown, since nothing may be clicked.
_STYLE = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#f7f8fa}
a{color:#0b61a4;text-decoration:none}a:hover{text-decoration:underline}
h1,h2,h3,h4,h5,h6{margin:.3em 0;font-weight:600}
.container-fluid,.container{padding:1rem 1.5rem;max-width:80rem;margin:0 auto}
.row{display:flex;flex-wrap:wrap;gap:1rem}.row>div{min-width:0}
.col-md-2,.col-lg-2{flex:0 0 14rem}.col-md-10,.col-lg-10{flex:1 1 30rem}.col-12{flex:0 0 100%}.col-6{flex:1 1 20rem}
.navbar{padding:.4rem 1rem}.breadcrumb,.nav,ul.list-group{list-style:none;padding:0;margin:0}
.breadcrumb{display:flex;gap:.5rem}.breadcrumb-item+.breadcrumb-item::before{content:"/ ";opacity:.5}
.card,.alert,table{background:#fff;border:1px solid #dde2e8;border-radius:6px}
.card{margin-bottom:1rem}
.card-header{padding:.4rem .7rem;border-bottom:1px solid #dde2e8}.card-body{padding:.5rem .7rem}
.alert{padding:.6rem .9rem;margin:.8rem 0 .4rem}.alert-secondary{background:#eef1f5}
table{width:100%;border-collapse:collapse;margin:.4rem 0}
th,td{padding:.35rem .6rem;text-align:left;vertical-align:top;border-top:1px solid #eceff3}
.badge{padding:.05rem .45rem;border-radius:9px;background:#e2e7ee;font-size:.85em}
.text-success{color:#1a7f37}.text-danger{color:#c62828}
i.fa-check-circle::before{content:"\\2713"}i.fa-times::before{content:"\\2717"}i.fa-exclamation-triangle::before{content:"\\26a0"}
i{font-style:normal}.sticky{position:static}
@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#15181d}.card,.alert,table,.alert-secondary{background:#1e232a;
border-color:#343b45}th,td,.card-header{border-color:#343b45}a{color:#6cb6ff}.badge{background:#39414d}}
"""
_REMOVED = (
    r"<script\b.*?</script>",
    r"<style\b.*?</style>",
    r"<link\b[^>]*>",
    r"<img\b[^>]*>",
    r"<footer\b.*?</footer>",
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions.*?(?=<div class="card d-md-block)',
)
_EXTERNAL = r"<a\b[^>]*https?://[^>]*>(.*?)</a>"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_STAMP = r"\d{8}T\d{6}\.\d{6}Z"


def make_offline(site: Path) -> None:
    """Rewrite every page of ``site`` in place and drop the assets that the pages no longer use."""
    shutil.rmtree(site / "static", ignore_errors=True)
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        html = _rewrite(page.read_text("utf-8"))
        if page == site / "index.html":
            # The index lists its validations by script only.
            html = html.replace("</body>", _links(site, pages) + "</body>", 1)
        write_text(page, html)


def _links(site: Path, pages: Iterable[Path]) -> str:
    names = [page.relative_to(site).as_posix() for page in pages if page != site / "index.html"]
    items = "".join(f'<li><a href="{quote(name)}">{escape(_title(name))}</a></li>\n' for name in names)
    return f'<div class="container"><h4>Pages</h4><ul>\n{items}</ul></div>\n'


def _title(page: str) -> str:
    """``validations: train`` of ``validations/train/…``: of which suite the page is."""
    kind, suite, *_ = page.removesuffix(".html").split("/")
    return f"{kind}: {suite}"


def _rewrite(html: str) -> str:
    for pattern in _REMOVED:
        html = re.sub(pattern, "", html, flags=re.DOTALL)
    html = re.sub(_EXTERNAL, r"\1", html, flags=re.DOTALL)
    html = re.sub(_UUID, "id", html)
    html = re.sub(rf"(?!{re.escape(_EPOCH_FOLDER)}){_STAMP}", "not recorded", html)
    html = re.sub(r"2000-01-01[T ]00:00:00(\.\d+)?( ?\+00:00|Z| UTC)?", "run", html)
    lines = [line.rstrip() for line in html.splitlines()]
    html = "\n".join(line for line in lines if line) + "\n"
    return html.replace("</head>", f"<style>{_STYLE}</style>\n</head>", 1)
