"""What docs/ says of telemetry, made from the names in the code.

After a change of the names: `python -m tests.support.telemetry_documents`.
"""

import json
from pathlib import Path
from typing import Any

from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.kinds import Metric, SpanName
from temporal_token_interceptor.telemetry.names import ATTRIBUTES, METRICS, SPANS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "telemetry.md"
DASHBOARD = DOCS / "telemetry-dashboard.json"

_UNITS = {"s": "_seconds", "By": "_bytes"}


def spans_table() -> str:
    """The spans."""
    rows = [f"| `{span.name}` | {span.kind} | {span.about} |" for span in SPANS]
    return "\n".join(["| span | kind | what it is |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """The metrics."""
    rows = [
        f"| `{metric.name}` | {metric.kind.replace('observable_', '').replace('_', '-')} | `{metric.unit}` | "
        f"{metric.about} | {', '.join(f'`{name}`' for name in metric.attributes)} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | kind | unit | what it says | attributes |", "|---|---|---|---|---|", *rows])


def attributes_table() -> str:
    """The attributes, and which spans have them."""
    rows = [
        f"| `{name}` | {', '.join(_short(span) for span in SPANS if name in span.attributes)} | {meaning} |"
        for name, meaning in ATTRIBUTES.items()
    ]
    return "\n".join(["| attribute | on spans | meaning |", "|---|---|---|", *rows])


def _short(span: SpanName) -> str:
    return span.name.partition(" ")[0]


def page() -> str:
    """docs/telemetry.md with its tables as they have to be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (
        ("spans", spans_table()),
        ("metrics", metrics_table()),
        ("attributes", attributes_table()),
    ):
        mark = f"<!-- {name}: generated -->\n"
        before, rest = text.split(mark)
        after = rest.split("\n\n", 1)[1]
        text = f"{before}{mark}{table}\n\n{after}"
    return text


# ------------------------------------------------------------------ the dashboard


def prometheus(metric: Metric) -> str:
    """The name under which Prometheus has a metric, by OpenTelemetry's rules of translation."""
    name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
    return f"{name}_total" if metric.kind == "counter" else name


def _quantiles(metric: Metric, by: str) -> list[tuple[str, str]]:
    bucket = f"rate({prometheus(metric)}_bucket[$__rate_interval])"
    legend = f"{{{{{by}}}}} " if by else ""
    group = f"le, {by}" if by else "le"
    return [
        (f"histogram_quantile({share}, sum by ({group}) ({bucket}))", f"{legend}p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    ]


def _rate(metric: Metric, by: str = "") -> tuple[str, str]:
    group = f" by ({by})" if by else ""
    legend = f"{{{{{by}}}}}" if by else metric.name.rpartition("temporal_token_interceptor.")[2]
    return f"sum{group} (rate({prometheus(metric)}[$__rate_interval]))", legend


def panels() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Title, Grafana's unit and queries, in reading order: what users feel, what it costs, what is wrong."""
    model = "gen_ai_request_model"
    form = prometheus_label(names.GATEWAY_FORMAT)
    duration = prometheus(names.DURATION)
    waste = f"rate({prometheus(names.TOKENS_SUPERSEDED)}[$__rate_interval])"
    published = f"rate({prometheus(names.TOKENS_PUBLISHED)}[$__rate_interval])"
    calls = f"sum by ({model}) (rate({duration}_count[$__rate_interval]))"
    errors = f'sum by (error_type) (rate({duration}_count{{error_type!=""}}[$__rate_interval]))'
    tokens = f"sum by (gen_ai_token_type) (rate({prometheus(names.TOKEN_USAGE)}_sum[$__rate_interval]))"
    return [
        ("Time to first chunk", "s", _quantiles(names.TIME_TO_FIRST_CHUNK, model)),
        ("Time per output chunk", "s", _quantiles(names.TIME_PER_OUTPUT_CHUNK, model)),
        ("From the model's callback to the reader", "s", _quantiles(names.DELIVERY_DELAY, "")),
        ("Duration of model calls", "s", _quantiles(names.DURATION, model)),
        ("Model calls", "reqps", [(calls, f"{{{{{model}}}}}")]),
        ("Failed model calls", "reqps", [(errors, "{{error_type}}")]),
        ("Tokens used, as providers count", "short", [(tokens, "{{gen_ai_token_type}}")]),
        ("Text chunks published", "short", [_rate(names.TOKENS_PUBLISHED, "activity_type")]),
        (
            "Retry waste, share of what is published",
            "percentunit",
            [(f"sum({waste}) / sum({published})", "superseded")],
        ),
        ("Time to store a frame", "s", _quantiles(names.FLUSH_DURATION, "")),
        ("Frames stored", "short", [_rate(names.FRAMES_PUBLISHED)]),
        (
            "Memory of what waits for the transport",
            "bytes",
            [(f"sum({prometheus(names.BUFFER_SIZE)})", "held")],
        ),
        (
            "Merged, dropped, undelivered, lost",
            "short",
            [
                _rate(names.TOKENS_MERGED),
                _rate(names.TOKENS_DROPPED),
                _rate(names.FRAMES_UNDELIVERED),
                _rate(names.FRAMES_DROPPED),
            ],
        ),
        ("Gaps that readers saw", "short", [_rate(names.READER_GAPS, prometheus_label(names.GAP_REASON))]),
        ("Text that readers took back", "short", [_rate(names.READER_TOKENS_SUPERSEDED)]),
        (
            "Streams of the gateway",
            "short",
            [(f"sum by ({form}) ({prometheus(names.GATEWAY_CONNECTIONS)})", f"{{{{{form}}}}}")],
        ),
        ("From Redis to the gateway's clients", "s", _quantiles(names.GATEWAY_DELAY, form)),
        ("Bytes to the gateway's clients", "Bps", [_rate(names.GATEWAY_BYTES, form)]),
        (
            "Clients of the gateway that fell behind, or were refused",
            "short",
            [
                _rate(names.GATEWAY_RESYNCS),
                _rate(names.GATEWAY_REFUSALS, prometheus_label(names.GATEWAY_REFUSAL)),
            ],
        ),
    ]


def prometheus_label(attribute: str) -> str:
    """The name under which Prometheus has an attribute."""
    return attribute.replace(".", "_")


def dashboard() -> str:
    """docs/telemetry-dashboard.json as it has to be."""
    datasource = {"type": "prometheus", "uid": "${datasource}"}
    drawn: list[dict[str, Any]] = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": datasource,
            "gridPos": {"h": 8, "w": 8, "x": number % 3 * 8, "y": number // 3 * 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + place), "datasource": datasource, "expr": query, "legendFormat": legend}
                for place, (query, legend) in enumerate(queries)
            ],
        }
        for number, (title, unit, queries) in enumerate(panels())
    ]
    whole = {
        "title": "Token streams",
        "uid": "temporal-token-interceptor",
        "schemaVersion": 39,
        "tags": ["temporal", "langchain", "genai"],
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
            ]
        },
        "panels": drawn,
    }
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DASHBOARD.write_text(dashboard(), encoding="utf-8")
