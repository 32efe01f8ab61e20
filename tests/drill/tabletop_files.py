"""A table-top drill small enough to be held in a test, and decisions for it."""

from __future__ import annotations

DRILL = """
version: 1
name: small_table
title: The vendor is gone
description: For tests.
mode: tabletop
roles: {owner: decides, platform: switches}
runbook: {leave: when to leave, switch: how to switch}
injects:
  - name: notice
    at_minutes: 0
    title: Notice is given
    text: The vendor ends the contract.
    questions:
      - {name: leave, ask: "Do we leave?", by: owner, within_minutes: 30, runbook: leave, evidence: true}
  - name: outage
    at_minutes: 45
    title: The vendor is down
    text: Nothing answers.
    questions:
      - {name: switch, ask: "Do we switch?", by: platform, within_minutes: 15, runbook: switch}
      - {name: tell, ask: "Who tells whom?", by: owner}
"""
DECISIONS = """
version: 1
drill: small_table
facilitator: Fay
data_collector: Dan
began_at: 2020-01-31T10:00:00Z
people:
  - {name: Olga, role: owner}
  - {name: Paul, role: platform}
decisions:
  - {inject: notice, question: leave, who: Olga, role: owner, decided: We leave in March, after_minutes: 12,
     runbook: leave, evidence: minutes of the meeting}
  - {inject: outage, question: switch, who: Paul, role: platform, decided: Switch now, at: 2020-01-31T10:55:00Z,
     runbook: switch}
  - {inject: outage, question: tell, who: Olga, role: owner, decided: The support desk tells all users}
actions:
  - {what: Take an export every week, owner: Paul, due: 2030-02-15}
  - {what: Read the contract again}
"""
