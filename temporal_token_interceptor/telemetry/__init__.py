"""OpenTelemetry spans and metrics of what the other folders do; `opentelemetry-api` only."""
