"""An application that is a command: the question on stdin, a process for each, the answer and its sources as JSON.

It asks the vendors whose addresses are in its environment, one after the other, and loads nothing but the standard
library: a process for every question has no time to."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request

asked = sys.stdin.read()
number = int("".join(letter for letter in asked if letter.isdigit()))
topics = ("gravel", "copper", "willow", "harbour", "meadow", "lantern", "saddle", "ribbon")
passage = f"The {topics[number % 8]} number {number} belongs to keeper{number}."
told = f"[passage doc-{number}]\n{passage}\n[/passage]\n\nQuestion: {asked}"
body = json.dumps({"model": "mock-large", "messages": [{"role": "user", "content": told}]}).encode()
for side in ("PRIMARY", "SUBSTITUTE"):
    base = re.findall(r"base_url=([^&]+)", os.environ[f"EXITRAMP_{side}_CHAT"])[0]
    request = urllib.request.Request(
        f"{base}/chat/completions", body, {"content-type": "application/json", "authorization": "Bearer any"}
    )
    try:
        with urllib.request.urlopen(request, timeout=1) as reply:
            said = json.load(reply)["choices"][0]["message"]["content"]
    except OSError:
        continue
    print(json.dumps({"answer": said, "sources": [f"doc-{number}"]}))
    sys.exit(0)
sys.exit("no vendor answers")
