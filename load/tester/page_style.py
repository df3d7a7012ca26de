"""How a load report's page looks: its one style sheet, for screens light and dark, narrow and wide, and for paper.

The page's Content-Security-Policy names this text by its hash, so nothing else can style it, and an element has no
style of its own. Colours are variables; those of plots are the ones that people with any of the common kinds of colour
blindness tell apart.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1b1f24; --soft: #59616b; --line: #e2e4e7; --grid: #e9ebee;
  --good: #1a7f4b; --caution: #9a6200; --bad: #c02f2f;
  --good-wash: #e8f5ee; --caution-wash: #fdf3e0; --bad-wash: #fcebea;
  --blue: #0a66ad; --teal: #00806a; --orange: #c25700; --grey: #6b7480; --zone: #1b1f24;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a2abb5; --line: #333a41; --grid: #2a3036;
    --good: #4cc38a; --caution: #e5a83a; --bad: #ff8078;
    --good-wash: #16291f; --caution-wash: #2e2515; --bad-wash: #341d1c;
    --blue: #62b0f4; --teal: #3cc7a8; --orange: #f59a45; --grey: #98a2ad; --zone: #ffffff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; font-weight: 650; }
h3 { font-size: 14px; margin: 0; font-weight: 600; }
p { margin: 0 0 8px; max-width: 75ch; }
.from { color: var(--soft); font-size: 13px; letter-spacing: .02em; margin: 0 0 4px; }
.facts {
  list-style: none; padding: 0; margin: 8px 0 0; display: flex; flex-wrap: wrap; gap: 2px 18px;
  color: var(--soft); font-size: 14px;
}
.facts b { font-weight: 500; color: var(--ink); overflow-wrap: anywhere; }
.verdict { margin: 20px 0 0; padding: 14px 18px; border-radius: 8px; border-left: 5px solid; }
.verdict strong { font-size: 19px; font-weight: 650; display: block; }
.verdict p { margin: 2px 0 0; }
.good { background: var(--good-wash); border-color: var(--good); }
.caution { background: var(--caution-wash); border-color: var(--caution); }
.bad { background: var(--bad-wash); border-color: var(--bad); }
.good .sign { color: var(--good); } .caution .sign { color: var(--caution); } .bad .sign { color: var(--bad); }
.sign { font-weight: 700; margin-right: .45em; }
.side { margin: 14px 0 0; }
.side .facts { margin-top: 2px; }
.warnings { margin: 12px 0 0; padding: 0; list-style: none; }
.warnings li {
  padding: 8px 14px; border: 1px solid var(--caution); border-radius: 6px; margin-top: 6px;
  overflow-wrap: anywhere;
}
.warnings .sign { color: var(--caution); }
.tiles {
  display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 12px;
  margin: 16px 0 0; padding: 0;
}
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  margin: 0;
}
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; }
.tile .figure {
  font-size: 25px; line-height: 1.25; font-weight: 650; white-space: nowrap;
  letter-spacing: -.01em;
}
.tile .figure.bad { background: none; color: var(--bad); }
.tile .more { color: var(--soft); font-size: 13px; line-height: 1.4; }
.tile .more b { color: var(--ink); font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
figure.plot {
  margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px 8px; display: flex; flex-direction: column; justify-content: space-between;
}
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.legend {
  list-style: none; padding: 0; margin: 4px 0 6px; display: flex; flex-wrap: wrap; gap: 2px 16px;
  font-size: 13px; color: var(--soft);
}
.legend li { display: flex; align-items: center; gap: 6px; }
.legend b { font-weight: 500; color: var(--ink); white-space: nowrap; margin-left: 5px; }
.legend svg.swatch { width: 24px; height: 12px; flex: none; }
svg text {
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  fill: var(--soft); font-variant-numeric: tabular-nums;
}
svg text.zone-name { font-size: 11px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.rule { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
.zone { fill: var(--zone); opacity: .06; }
.zone-ramp { opacity: .035; }
.line { fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linejoin: round; }
.area { fill: currentColor; stroke: none; opacity: .18; }
.dot, .mark { fill: currentColor; stroke: var(--card); stroke-width: 1; }
.dashed { stroke-dasharray: 5 3.5; }
.tone-run, .tone-first { color: var(--blue); }
.tone-request { color: var(--teal); }
.tone-token, .tone-second, .tone-waiting { color: var(--orange); }
.tone-failed { color: var(--bad); }
.area.tone-failed { opacity: .45; }
.tone-asked { color: var(--grey); }
.tone-plain { color: var(--grey); }
.hit { fill: transparent; }
.tip { visibility: hidden; pointer-events: none; }
.pointed:hover .tip { visibility: visible; }
.tip-box { fill: var(--card); stroke: var(--soft); stroke-width: .8; }
svg text.tip-line { font-size: 11.5px; fill: var(--ink); }
svg text.tip-head { font-weight: 600; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 7px 12px; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13px; white-space: nowrap; }
tbody th { font-weight: 600; min-width: 15ch; }
tbody th small {
  display: block; font-weight: 400; color: var(--soft); font-size: 12.5px; line-height: 1.35;
  max-width: 44ch;
}
td.number, th.number { text-align: right; white-space: nowrap; }
td.words, td.said { overflow-wrap: anywhere; min-width: 14ch; }
td.said { min-width: 34ch; }
td.said bdi { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; align-items: start; }
.better { color: var(--good); } .worse { color: var(--bad); } .unclear { color: var(--soft); }
td.better, td.worse, td.unclear { white-space: nowrap; }
.bar { display: block; width: 100%; min-width: 70px; height: 12px; }
.bar .track { fill: var(--grid); } .bar .part { fill: currentColor; }
.note { color: var(--soft); font-size: 13px; margin-top: 6px; }
footer {
  margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 13px;
}
code {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .93em;
  overflow-wrap: anywhere;
}
@media (max-width: 1000px) {
  .tiles { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
@media (max-width: 720px) {
  main { padding: 18px 14px 36px; }
  h1 { font-size: 22px; }
  .plots, .pair { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tile { padding: 10px 12px; } .tile .figure { font-size: 22px; }
  th, td { padding: 6px 9px; }
}
@media print {
  :root {
    --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --grid: #ddd; --zone: #000;
    --good: #1a7f4b; --caution: #8a5a00; --bad: #b02020; --good-wash: #fff; --caution-wash: #fff; --bad-wash: #fff;
    --blue: #0a66ad; --teal: #00806a; --orange: #c25700; --grey: #555;
  }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  figure.plot, .tile, .verdict, tr, .warnings li { break-inside: avoid; }
  h2 { break-after: avoid; }
  .tips, .screen { display: none; }
  .plots, .pair { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tiles { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px; }
  table { font-size: 8.5pt; }
  th, td { padding: 4px 6px; }
  thead th, tbody th small { font-size: 8pt; }
  tbody th { min-width: 0; }
  .wide { overflow: visible; border: 0; }
  .verdict { border: 1px solid; border-left-width: 5px; }
  * { print-color-adjust: exact; }
}
"""

#: What the page may do: have this style, and nothing else. It loads nothing and runs nothing.
POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
