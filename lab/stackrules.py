"""Prometheus' rules and Alertmanager's routing, made of the tables of alerts.

Owns their layout. `scale` divides every duration, so that a test sees in seconds what operation sees in minutes; the
expressions stay the same. Knows no file.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.stackalerts import LIMITS, NODE_ALERTS, Alert
from lab.stackalerts_stack import BURNS, OBJECTIVES, RECORDS, STACK_ALERTS, SYMPTOMS, WINDOW, burn_alerts

RUNBOOKS: Final = "docs/runbooks"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?P<before>\[|offset )(?P<number>\d+)(?P<unit>[smhd])\b")

Groups = list[dict[str, Any]]


def seconds(text: str) -> int:
    """`5m` as seconds."""
    return int(text[:-1]) * _UNITS[text[-1]]


class Scale:
    """Divides durations by `factor`; no window becomes shorter than `least` seconds, no duration longer than `most`."""

    def __init__(self, factor: int = 1, least: int = 6, most: int | None = None) -> None:
        self.factor = factor
        self.least = least
        self.most = most

    def expression(self, text: str) -> str:
        """The expression with its windows divided."""
        return text if self.factor == 1 else _DURATION.sub(self._window, text)

    def hold(self, text: str) -> str:
        """A `for` divided; it may become 0."""
        return text if self.factor == 1 else f"{self._shorter(text)}s"

    def _window(self, match: "re.Match[str]") -> str:
        length = max(self.least, self._shorter(match["number"] + match["unit"]))
        return f"{match['before']}{length}s"

    def _shorter(self, text: str) -> int:
        length = seconds(text) // self.factor
        return length if self.most is None else min(length, self.most)


def all_alerts() -> tuple[Alert, ...]:
    """Every alert."""
    return (*NODE_ALERTS, *STACK_ALERTS, *burn_alerts())


def limits(changed: Mapping[str, float] | None = None) -> Groups:
    """The limits as series of their own; `changed`: other values by name."""
    values = {name: value for name, (value, _) in LIMITS.items()} | dict(changed or {})
    return [{
        "name": "pqvpn-limits",
        "rules": [{"record": f"pqvpn:limit:{name}", "expr": f"vector({value:g})"} for name, value in values.items()],
    }]  # fmt: skip


def alerts(scale: Scale | None = None) -> Groups:
    """The alerts about nodes and about the stack."""
    scale = scale or Scale()
    return [
        {"name": "pqvpn-nodes", "rules": [_rule(alert, scale) for alert in NODE_ALERTS]},
        {"name": "pqvpn-stack", "rules": [_rule(alert, scale) for alert in STACK_ALERTS]},
    ]


def objectives(scale: Scale | None = None) -> Groups:
    """Recorded ratios of each objective and the alerts about how fast their budgets burn."""
    scale = scale or Scale()
    windows = [window for _, _, short, long, _, _ in BURNS for window in (short, long)]
    base: list[dict[str, Any]] = [{"record": name, "expr": expr} for name, expr in RECORDS.items()]
    ratios = [
        {
            "record": f"{objective.record}_{window}",
            "expr": scale.expression(f"({objective.bad}) / ({objective.total})".replace(WINDOW, window)),
        }
        for objective in OBJECTIVES
        for window in windows
    ]
    return [{"name": "pqvpn-objectives", "rules": [*base, *ratios, *(_rule(alert, scale) for alert in burn_alerts())]}]


def _rule(alert: Alert, scale: Scale) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": scale.expression(alert.expr)}
    if (hold := scale.hold(alert.hold)) != "0s":
        rule["for"] = hold
    rule["labels"] = {"severity": alert.severity} | ({"reason": alert.reason} if alert.reason else {})
    rule["annotations"] = {
        "summary": alert.summary,
        "remedy": alert.remedy,
        "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
    }
    return rule


def prometheus(
    *, rules: Iterable[str], alertmanager: str, jobs: Mapping[str, str], interval: str = "15s"
) -> dict[str, Any]:
    """Prometheus' configuration; `jobs`: target by job. Those of nodes' metrics keep the labels that the nodes gave."""
    own = ("nodes", "events")
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": list(rules),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": job}
            | ({"honor_labels": True} if job in own else {})
            | {"static_configs": [{"targets": [target]}]}
            for job, target in jobs.items()
        ],
    }


def alertmanager(
    receiver: Mapping[str, Any], scale: Scale | None = None, deadman: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Routing: one message for all that is wrong with a peer, causes instead of symptoms, the watchdog by its own way."""
    scale = scale or Scale()
    receivers: list[dict[str, Any]] = [{"name": "operators", **receiver}, {"name": "watchdog", **(deadman or {})}]
    return {
        "route": {
            "receiver": "operators",
            "group_by": ["instance", "pqvpn_peer"],
            "group_wait": "1s" if scale.factor > 1 else "10s",
            "group_interval": "2s" if scale.factor > 1 else "1m",
            "repeat_interval": "4h",
            "routes": [
                {"matchers": ['alertname="Watchdog"'], "receiver": "watchdog", "group_wait": "0s", "repeat_interval": "5m"},
                {"matchers": ['severity="info"'], "receiver": "operators", "repeat_interval": "24h"},
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{each.cause}"', *([each.only] if each.only else [])],
                "target_matchers": [f'alertname=~"{"|".join(each.symptoms)}"'],
                "equal": list(each.equal),
            }
            for each in SYMPTOMS
        ],
        "receivers": receivers,
    }  # fmt: skip
