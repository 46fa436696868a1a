"""What an OpenTelemetry SDK is told while an agent's tokens stream: `python -m examples.telemetry`."""
