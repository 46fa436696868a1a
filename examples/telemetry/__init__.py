"""What an OpenTelemetry SDK receives while an agent's tokens stream: `python -m examples.telemetry`."""
