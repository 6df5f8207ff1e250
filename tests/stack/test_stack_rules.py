"""The rules, judged by promtool: each alert fires on its series and is quiet before and after."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rule_cases import CASES, Case

from lab import stackrules, stackservers, stackyaml

RULES = stackservers.CONFIG / "prometheus" / "rules"
pytestmark = pytest.mark.stack("promtool", "amtool")


def promtool(*arguments: str, folder: Path = RULES) -> str:
    done = subprocess.run(
        [str(stackservers.BIN / "promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expectation(case: Case, time: str, fires: bool) -> dict[str, Any]:
    labels = {"alertname": case.alert, "alertstate": "firing", **(case.labels if fires else {})}
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    samples = [{"labels": "{}", "value": 1}] if fires else []
    return {"expr": f"count(ALERTS{{{matchers}}})", "eval_time": time, "exp_samples": samples}


def as_test(case: Case) -> dict[str, Any]:
    return {
        "interval": case.interval,
        "name": case.alert,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            *(expectation(case, time, True) for time in case.fires),
            *(expectation(case, time, False) for time in case.quiet),
        ],
    }


@pytest.mark.parametrize("interval", ["15s", "1m"])
def test_every_alert_fires_and_falls_silent(tmp_path: Path, interval: str) -> None:
    tests = {
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yml"))],
        "evaluation_interval": interval,
        "tests": [as_test(case) for case in CASES if case.interval == interval],
    }
    (tmp_path / "tests.yml").write_text(stackyaml.dump(tests))
    promtool("test", "rules", "tests.yml", folder=tmp_path)


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES if case.fires} == {alert.name for alert in stackrules.all_alerts()}


def test_every_alert_is_provoked_by_a_real_fault() -> None:
    text = "".join(Path(__file__).with_name(f"test_stack_{name}.py").read_text() for name in ("alerts", "secure"))
    assert [alert.name for alert in stackrules.all_alerts() if alert.name not in text] == []


def test_rules_and_routing_are_valid(tmp_path: Path) -> None:
    for path in RULES.glob("*.yml"):
        promtool("check", "rules", path.name)
    promtool("check", "config", "--syntax-only", "prometheus.yml", folder=RULES.parent)
    routing = stackservers.CONFIG / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        [str(stackservers.BIN / "amtool"), "check-config", str(routing)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shorter_durations_keep_the_expressions(tmp_path: Path) -> None:
    scale = stackrules.Scale(20, 6, 30)
    for made in (stackrules.alerts(scale), stackrules.objectives(scale), stackrules.limits({"flaps": 2})):
        (tmp_path / "rules.yml").write_text(stackyaml.dump({"groups": made}))
        promtool("check", "rules", "rules.yml", folder=tmp_path)
    before = {rule.name: rule.expr for rule in stackrules.all_alerts()}
    for group in stackrules.alerts(scale):
        for rule in group["rules"]:
            without = [
                re.sub(r"\[\d+[smhd]\]|offset \d+[smhd]", "_", text) for text in (rule["expr"], before[rule["alert"]])
            ]
            assert without[0] == without[1]


def test_alerts_carry_what_an_operator_needs() -> None:
    names = [alert.name for alert in stackrules.all_alerts()]
    assert len(set(names)) == len(names)
    for group in (*stackrules.alerts(), *stackrules.objectives()):
        for rule in (each for each in group["rules"] if "alert" in each):
            assert rule["annotations"].keys() == {"summary", "remedy", "runbook_url"}
            assert rule["annotations"]["remedy"], rule["alert"]
            assert (stackservers.ROOT / rule["annotations"]["runbook_url"]).exists()
            assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
            assert "session_id" not in rule["expr"]
