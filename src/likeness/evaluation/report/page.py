"""The page's frame: style, sections, tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#18202b;--soft:#5d6b7c;--line:#e1e6ec;--good:#12803c;
--bad:#c0272d;--good-bg:#e6f5ea;--bad-bg:#fdeaea;--blue:#2458d3;--faint:#a9bbe8}
@media(prefers-color-scheme:dark){:root{--bg:#101419;--card:#191f27;--ink:#e7ecf2;--soft:#98a5b5;--line:#2b343f;
--good:#4cc47a;--bad:#ff7b7b;--good-bg:#123021;--bad-bg:#3a1a1c;--blue:#7fa4ff;--faint:#3a4d7d}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 4rem}
header{border-radius:16px;padding:1.6rem 1.8rem;margin-bottom:1.2rem;border:1px solid var(--line);
background:var(--card);
border-top:6px solid var(--tone)}
.pass{--tone:var(--good)}.fail{--tone:var(--bad)}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem}h2{font-size:1.15rem;margin:0 0 .8rem}
h3{font-size:1rem;margin:1rem 0 .5rem}
.verdict{display:inline-block;font-weight:700;letter-spacing:.04em;color:var(--card);background:var(--tone);
border-radius:99px;padding:.15rem .9rem;font-size:.85rem}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.2rem 1.4rem;
margin-bottom:1.2rem}
p{margin:.3rem 0}.soft{color:var(--soft)}code{font:.85em ui-monospace,Menlo,Consolas,monospace}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:.8rem;margin-top:1.1rem}
.card{border:1px solid var(--line);border-radius:12px;padding:.7rem .9rem}
.card span{color:var(--soft);font-size:.85rem}
.card b{display:block;font-size:1.45rem;line-height:1.3}.card small{color:var(--soft)}
ul.reasons{list-style:none;margin:0;padding:0}
.reasons li{display:flex;gap:.7rem;padding:.45rem .6rem;border-radius:8px;margin:.25rem 0}
.reasons li::before{font-weight:700}.reasons .ok{background:var(--good-bg)}.reasons .no{background:var(--bad-bg)}
.reasons .ok::before{content:"\\2713";color:var(--good)}.reasons .no::before{content:"\\2717";color:var(--bad)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft);font-size:.85rem}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:middle}
td small{color:var(--soft);white-space:nowrap}td:first-child small{white-space:normal}.scroll{overflow-x:auto}
.pictures{border-spacing:0}.pictures td{padding:.25rem;border:0}.pictures th{padding:.25rem}
.pictures td.words{min-width:12rem;max-width:17rem;font-size:.85rem}.pictures td.gap{width:1rem}
img{display:block;width:96px;height:96px;object-fit:cover;border-radius:8px}
.strip{display:flex;gap:.5rem;flex-wrap:wrap}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1rem}
figure{margin:0}figcaption{font-size:.88rem;color:var(--soft)}figcaption b{color:var(--ink)}
svg{display:block}.chart svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}
.bar{width:160px;height:20px}
.grid{stroke:var(--line)}polyline{fill:none}.raw{stroke:var(--faint);stroke-width:1}
.mean{stroke:var(--blue);stroke-width:2}
line.good,circle.good{stroke:var(--good);fill:var(--good)}line.bad,circle.bad{stroke:var(--bad);fill:var(--bad)}
line.flat,circle.flat{stroke:var(--soft);fill:var(--soft)}.bar line{stroke-width:2.5}.bar line.grid{stroke-width:1}
.graph rect{fill:var(--bg);stroke:var(--line)}.graph .name{fill:var(--ink);font-weight:600}
.edge{fill:none;stroke:var(--faint);stroke-width:1.4}
.count{display:grid;grid-template-columns:12rem 1fr 4rem;gap:.6rem;align-items:center;margin:.2rem 0;font-size:.9rem}
.count i{height:.6rem;border-radius:4px;background:var(--blue)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1.4rem}
iframe{width:100%;height:26rem;border:1px solid var(--line);border-radius:8px;background:#fff}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.7rem}
.sheet figure{border:1px solid var(--line);border-radius:10px;overflow:hidden;border-top:3px solid var(--tone)}
.sheet img{width:100%;height:9rem;object-fit:contain;border-radius:0;background:#8881}
.sheet figcaption{padding:.4rem .55rem .55rem;overflow-wrap:anywhere;font-size:.8rem}
.kept{--tone:var(--good)}.aside{--tone:var(--bad)}
rect.kept{fill:var(--good);opacity:.75}rect.aside{fill:var(--bad);opacity:.55}
.slide{position:relative;width:192px;--x:50%}.slide img{width:192px;height:192px}
.slide img+img{position:absolute;top:0;left:0;clip-path:inset(0 0 0 var(--x))}.slide input{width:100%;margin:.3rem 0}
.slide i{position:absolute;top:0;left:var(--x);height:192px;width:2px;background:#fff;mix-blend-mode:difference}
.slides{display:flex;gap:1.2rem;flex-wrap:wrap;margin:.6rem 0}.slides figcaption{max-width:192px}
@media(max-width:40rem){.cards{grid-template-columns:1fr 1fr}
main{padding:.8rem .5rem 3rem}section,header{padding:.9rem .8rem}h1{font-size:1.35rem}
.count{grid-template-columns:8rem 1fr 3rem}img{width:72px;height:72px}.two{grid-template-columns:1fr}
.reasons li{padding:.45rem .3rem}iframe{height:18rem}}
details>summary{cursor:pointer;color:var(--soft);margin:.6rem 0}
"""


def section(title: str, *body: str) -> str:
    """A titled card; empty when nothing is in it."""
    content = "".join(body)
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def card(label: str, value: str, note: str = "") -> str:
    """One headline figure."""
    return f'<div class="card"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>'


def document(title: str, parts: Sequence[str]) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )
