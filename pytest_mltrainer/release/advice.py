"""What to do at an alarm, by rule: for the monitoring guide, and for who is paged by Prometheus."""

ADVICE = {
    "input_drift": "Compare the preprocessing of the service with that of training, then the "
    "source of the data.",
    "input_spread": "Look for a change of unit or scale, or for requests of a new kind.",
    "label_shift": "Check whether the world has changed; label a sample and measure again.",
    "confidence": "Label a sample of recent requests and measure again before trusting answers.",
    "not_finite": "Stop the requests that hold values which are not finite; repair their source.",
    "latency": "Look at load and hardware; roll back if only the release is new.",
}
CRITICAL = ("not_finite",)
"""Rules whose alarm says that answers are wrong now; the others ask for somebody to look."""
