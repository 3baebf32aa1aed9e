"""`prometheus_rules.yml`: the rules of the monitor as alerts of Prometheus.

A service exposes distances by `monitor_metrics.py`; each alert compares those of its rule with the
threshold, so it fires exactly where `Monitor.check` alarms. Only distances of this very model
count: the rules of several releases can be loaded at once.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from pytest_mltrainer.release.advice import ADVICE, CRITICAL
from pytest_mltrainer.release.monitor import SLACK
from pytest_mltrainer.release.monitor_metrics import DISTANCE

_HEAD = """\
# Alerts for Prometheus, made from monitoring_rules.json of the same folder; not to be edited.
# The service exposes the numbers by monitor_metrics.py: see monitoring_guide.md.
"""


def prometheus_rules(stored: Mapping[str, Any]) -> str:
    """The alerts of the rules in `monitoring_rules.json`, one a rule."""
    alerts = [_alert(name, stored) for name in sorted(stored["rules"])]
    groups = {"groups": [{"name": f"mltrainer-{stored['model']}", "rules": alerts}]}
    return _HEAD + yaml.safe_dump(groups, sort_keys=False, width=1_000)


def expression(name: str, stored: Mapping[str, Any]) -> str:
    """The PromQL of a rule: the largest distance of its values, for each process that serves."""
    # Every digit: a rounded threshold would part from the monitor at the edge.
    threshold = float(stored["rules"][name]["threshold"]) + SLACK
    selected = f'{DISTANCE}{{model="{stored["model"]}",rule="{name}"}}'
    return f"max without (value) ({selected}) > {threshold!r}"


def _alert(name: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "alert": f"Mltrainer{name.title().replace('_', '')}",
        "expr": expression(name, stored),
        # The threshold is that of a whole window: one beyond it is not waited upon.
        "for": "0s",
        "labels": {"severity": "critical" if name in CRITICAL else "warning"},
        "annotations": {
            "summary": f"{name} at {{{{ $labels.instance }}}}: {{{{ $value | humanize }}}} scales "
            f"from the reference ({stored['rules'][name]['meaning']})",
            "description": ADVICE[name],
        },
    }
