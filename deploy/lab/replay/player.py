"""Plays a recording on a pool, step by step, and tells where each answer differs."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from deploy.lab.replay import raw_requests, rules
from deploy.lab.replay.compare import Comparison
from deploy.lab.replay.follow import FollowComparison, Follower, recorded_tracks
from deploy.lab.replay.late import LateBinder
from deploy.lab.replay.names import Names, Unbound
from deploy.lab.replay.placement import Placement
from deploy.lab.replay.places import MISSING, Difference, Facts, Place
from deploy.lab.replay.pools import PATIENCE, Pool
from deploy.lab.replay.prepare import CallFailed, Inventory, bind_fixed, facts_of, take_inventory
from deploy.lab.replay.recording import (
    Recording,
    Step,
    duration_of,
    leaves_of,
    outcome_of,
    title_of,
    words_in,
)
from deploy.lab.replay.replies import Replies, place_of
from deploy.lab.replay.wire import TIMEOUT, Answer, Endpoint, json_request

POLL = 0.02
"""Real seconds between two looks of a `wait`."""

LONGEST_WAIT = 900.0
"""Seconds on the pool's clock that what a `wait` waits for may take at the longest."""

GAP = 0.4
"""Seconds on the pool's clock between two jobs of a `follow`."""


@dataclass
class StepResult:
    """One counted step: it agrees when there are no differences."""

    index: str
    call: str
    differences: list[Difference] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return not self.differences


@dataclass
class ScenarioResult:
    scenario: str
    steps: list[StepResult]
    remarks: list[str] = field(default_factory=list)

    @property
    def agree(self) -> int:
        return sum(step.agrees for step in self.steps)


class Player:
    """One scenario on one pool."""

    def __init__(self, recording: Recording, pool: Pool) -> None:
        self._recording = recording
        self._pool = pool
        self._names = Names()
        self._session = ""
        """For look-ups of our own."""
        self._results: list[StepResult] = []

    def play(self) -> ScenarioResult:
        """Play every step. Nothing that goes wrong in one step keeps the next from being played."""
        remarks: list[str] = []
        try:
            remarks += self._prepare()
        except (CallFailed, OSError, http.client.HTTPException, LookupError) as error:
            why = f"The pool could not be prepared: {error}"
            differences = [Difference("preparation", "a pool", why)]
            steps = [
                StepResult(index, title_of(step), list(differences))
                for index, step in self._recording.leaves()
            ]
            return ScenarioResult(self._recording.scenario, steps, [why])
        for number, step in enumerate(self._recording.steps):
            self._step(str(number), step)
        return ScenarioResult(self._recording.scenario, self._results, remarks)

    # --- preparation -----------------------------------------------------------------------------

    def _prepare(self) -> list[str]:
        self._session = self._log_in("look-ups")
        self._names.bind("<session>", self._log_in())
        inventory = take_inventory(self._ask)
        remarks = []
        try:
            missing = bind_fixed(inventory, self._names, self._recording.binds, self._ask)
        except CallFailed as error:
            remarks.append(f"preparing: {error}")
            missing = bind_fixed(inventory, self._names, (), self._ask)
            missing = [name for name in self._recording.binds if name not in self._names]
        remarks += [f"the pool has no {name}" for name in missing]
        self._set_up(inventory)
        return remarks

    def _set_up(self, inventory: Inventory) -> None:
        facts: Facts = facts_of(inventory)
        facts.canonical = self._recording.class_names()
        facts.foreign = self._recording.foreign_names()
        self._facts = facts
        self._comparison = Comparison(self._names, facts)
        self._replies = Replies(self._comparison)
        self._placement = Placement(facts)
        self._late = LateBinder(
            self._recording, inventory, self._comparison, self._ask, self._log_in
        )
        facts.identify = self._late.identify

    def _log_in(self, originator: str = "replay") -> str:
        answer = self._pool.endpoint("h1").call(
            "session.login_with_password",
            [self._pool.username, self._pool.password, "2.21", originator],
        )
        if not isinstance(answer.result, str):
            raise CallFailed(f"login: {answer.error or answer.transport}")
        return answer.result

    def _ask(self, method: str, *args: Any) -> Any:
        """A call of our own. Raises CallFailed."""
        answer = self._pool.endpoint("h1").call(method, [self._session, *args])
        if answer.error is not None or answer.transport is not None:
            raise CallFailed(f"{method}: {answer.error or answer.transport}")
        return answer.result

    # --- steps -----------------------------------------------------------------------------------

    def _step(self, index: str, step: Step) -> None:
        via = str(step.get("via"))
        if via == "parallel" and step.get("steps"):
            self._guarded(index, step, lambda: self._parallel(index, step))
        elif via == "follow" and step.get("jobs"):
            self._guarded(index, step, lambda: self._follow(index, step))
        else:
            self._record(index, step, lambda: self._single(step))

    def _record(self, index: str, step: Step, play: Callable[[], list[Difference]]) -> None:
        try:
            differences = play()
        except Exception as error:
            differences = [Difference("step", outcome_of(step), f"{type(error).__name__}: {error}")]
        self._results.append(StepResult(index, title_of(step), differences))

    def _guarded(self, index: str, step: Step, play: Callable[[], None]) -> None:
        """Play a container; whatever part of it was not counted counts as different."""
        try:
            play()
        except Exception as error:
            done = {result.index for result in self._results}
            for inner, part in leaves_of(index, step):
                if inner not in done:
                    difference = Difference("step", "played", f"{type(error).__name__}: {error}")
                    self._results.append(StepResult(inner, title_of(part), [difference]))

    def _single(self, step: Step) -> list[Difference]:
        kinds: dict[str, Callable[[Step], list[Difference]]] = {
            "xmlrpc": self._xmlrpc,
            "jsonrpc": self._jsonrpc,
            "http": self._http,
            "wait": self._wait,
            "sleep": self._sleep,
            "count": self._count,
            "summary": self._summary,
            "control": self._control,
        }
        play = kinds.get(str(step.get("via")))
        if play is None:
            return [Difference("via", step.get("via"), "a kind of step that is not known")]
        with self._pool.hurried(duration_of(step)):
            return play(step)

    # --- sending ---------------------------------------------------------------------------------

    def _arguments(self, step: Step) -> list[Any]:
        """A step's arguments with every name replaced.

        Raises Unbound for a name that nothing can be found for.
        """
        return [self._fill(arg, step) for arg in step.get("args", ())]

    def _fill(self, value: Any, step: Step) -> Any:
        if isinstance(value, str):
            return self._fill_text(value, step)
        if isinstance(value, dict):
            return {self._fill(key, step): self._fill(part, step) for key, part in value.items()}
        if isinstance(value, list):
            return [self._fill(part, step) for part in value]
        return value

    def _fill_text(self, text: str, step: Step) -> str:
        if text == rules.PASSWORD:
            return self._pool.password
        text = text.replace("<time>", f"{datetime.now(UTC):%Y%m%dT%H:%M:%SZ}")
        text = text.replace("<unixtime>", str(int(self._wall_clock()) - 20))
        text = text.replace(f'"{rules.PASSWORD}"', json.dumps(self._pool.password))
        for _ in range(100):
            try:
                return self._names.fill(text)
            except Unbound as missing:
                if not self._late.bind(missing.name, step):
                    raise
        raise LookupError(f"{text!r} holds too many names")

    def _wall_clock(self) -> float:
        now = self._pool.now()
        return now if now > 1e9 else time.time()

    def _endpoint(self, step: Step) -> Endpoint:
        return self._pool.endpoint(str(step.get("host", "h1")))

    def _timed(self, send: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
        lab, real = self._pool.now(), time.monotonic()
        answer = send()
        return answer, (self._pool.now() - lab, time.monotonic() - real)

    def _waited(self, step: Step, took: tuple[float, float]) -> list[Difference]:
        recorded = step.get("seconds")
        if not isinstance(recorded, int | float) or rules.waits_alike(float(recorded), *took):
            return []
        return [Difference("seconds", recorded, round(took[0], 2))]

    # --- xmlrpc ------------------------------------------------------------------------------------

    def _xmlrpc(self, step: Step) -> list[Difference]:
        args = self._arguments(step)
        self._foresee(str(step["call"]), args)
        answer, took = self._timed(lambda: self._endpoint(step).ask(str(step["call"]), args))
        return self._compare_answer(step, args, answer, took)

    def _foresee(self, call: str, args: Sequence[Any]) -> None:
        method = call.removeprefix("Async.")
        if method in ("VM.destroy", "VM.revert") and len(args) > 1 and isinstance(args[1], str):
            self._late.remember_disks(args[1])

    def _compare_answer(
        self, step: Step, args: Sequence[Any], answer: Answer, took: tuple[float, float]
    ) -> list[Difference]:
        call = str(step["call"])
        succeeded = answer.error is None and answer.transport is None
        self._placement.observe(call, args, answer.result if succeeded else None)
        if call == "VDI.destroy" and succeeded and len(args) > 1:
            self._late.forget_disk(str(args[1]))
        waited = self._waited(step, took)
        if rules.ignored_outcome(call):
            return waited
        return self._outcomes(step, args, answer) + waited

    def _outcomes(self, step: Step, args: Sequence[Any], answer: Answer) -> list[Difference]:
        if "error" in step:
            if answer.error is not None:
                return self._comparison.error(step["error"], answer.error, "error")
        elif "transport" in step:
            if answer.transport is not None:
                return self._transport(step["transport"], answer.transport)
        elif answer.error is None and answer.transport is None:
            place = place_of(step, args)
            return self._comparison.result(place.call, step.get("result"), answer.result, place)
        return [Difference("answer", outcome_of(step), answer.shown)]

    def _transport(self, expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[Difference]:
        if "Code" not in expected:
            return [] if "Code" not in got else [Difference("transport", expected, got)]
        found = []
        for key in ("Code", "Body"):
            place = Place(path=f"transport.{key}")
            found += self._comparison.value(expected.get(key), got.get(key, MISSING), place)
        return found

    # --- jsonrpc -----------------------------------------------------------------------------------

    def _jsonrpc(self, step: Step) -> list[Difference]:
        args = self._arguments(step)
        if "body" in step:
            text = self._fill_text(str(step["body"]), step)
        else:
            text = json_request(int(step.get("version", 2)), str(step["call"]), args)
            self._foresee(str(step["call"]), args)
        reply, took = self._timed(
            lambda: self._endpoint(step).post("/jsonrpc", text.encode(), "application/json")
        )
        found = self._waited(step, took)
        status = int(step.get("status", 200))
        if reply.status != status:
            found.append(Difference("status", status, reply.status))
        if "reply_text" in step:
            return found + self._comparison.value(step["reply_text"], reply.text, Place("reply"))
        try:
            content = json.loads(reply.text)
        except ValueError:
            return [*found, Difference("reply", step.get("reply"), reply.text)]
        if isinstance(content, dict) and "result" in content:
            self._placement.observe(str(step["call"]), args, content["result"])
        return found + self._replies.json(step, args, step.get("reply"), content)

    # --- http --------------------------------------------------------------------------------------

    def _http(self, step: Step) -> list[Difference]:
        text = self._fill_text(str(step["request"]), step)
        request = raw_requests.build(text, self._pool.username, self._pool.password)
        expected = step["response"]
        patience = 5.0 / min(self._pool.rate, 2.0)
        if "kept open" not in str(expected.get("end")):
            patience = TIMEOUT
        response, took = self._timed(lambda: self._endpoint(step).raw(request, patience=patience))
        if "kept open" in str(expected.get("end")):
            took = (float(step.get("seconds", 0)), took[1])
        return self._waited(step, took) + self._replies.raw(text, expected, response)

    # --- waiting -----------------------------------------------------------------------------------

    def _wait(self, step: Step) -> list[Difference]:
        args = self._arguments(step)
        answer = self._poll(step, args, PATIENCE)
        if answer.error is None and answer.transport is None and answer.result not in step["until"]:
            # Something slow, such as a dead host being given up: let time fly.
            with self._pool.hurried(LONGEST_WAIT):
                answer = self._poll(step, args, TIMEOUT)
        if answer.result not in step["until"]:
            return [Difference("answer", step["result"], answer.shown)]
        return self._comparison.value(step["result"], answer.result, Place())

    def _poll(self, step: Step, args: Sequence[Any], patience: float) -> Answer:
        """Ask until the answer is one of those waited for, or for so many real seconds."""
        deadline = time.monotonic() + patience
        while True:
            answer = self._endpoint(step).ask(str(step["call"]), args)
            if answer.result in step["until"] or answer.error or answer.transport:
                return answer
            if time.monotonic() > deadline:
                return answer
            time.sleep(POLL)

    def _sleep(self, step: Step) -> list[Difference]:
        time.sleep(min(float(step["seconds"]) / self._pool.rate, TIMEOUT))
        return []

    # --- counts ------------------------------------------------------------------------------------

    def _count(self, step: Step) -> list[Difference]:
        answer = self._endpoint(step).ask(str(step["call"]), self._arguments(step))
        if not isinstance(answer.result, list | dict):
            return [Difference("answer", step["count"], answer.shown)]
        if rules.is_uncounted(str(step["call"])):
            return []
        return self._comparison.value(step["count"], len(answer.result), Place("count"))

    def _summary(self, step: Step) -> list[Difference]:
        answer = self._endpoint(step).ask(str(step["call"]), self._arguments(step))
        if not isinstance(answer.result, dict):
            return [Difference("answer", step.get("classes"), answer.shown)]
        events = answer.result.get("events", [])
        found = []
        for key, part in (("classes", "class"), ("operations", "operation")):
            seen = sorted({str(event.get(part)) for event in events})
            if key in step and sorted(step[key]) != seen:
                found.append(Difference(key, sorted(step[key]), seen))
        if "valid_ref_counts" in step:
            counts = answer.result.get("valid_ref_counts")
            found += self._comparison.ref_counts(
                step["valid_ref_counts"], counts, "valid_ref_counts"
            )
        return found

    # --- several at once ------------------------------------------------------------------------------

    def _parallel(self, index: str, step: Step) -> None:
        parts = [part for part in step["steps"] if isinstance(part, dict)]
        args = [self._arguments(part) for part in parts]
        for part, arguments in zip(parts, args, strict=True):
            self._foresee(str(part.get("call", "")), arguments)
        answers: dict[int, tuple[Answer, tuple[float, float]]] = {}

        def send(number: int) -> None:
            part = parts[number]
            time.sleep(float(part.get("at", 0.0)) / self._pool.rate)
            endpoint = self._endpoint(part).fresh()
            try:
                answers[number] = self._timed(lambda: endpoint.ask(str(part["call"]), args[number]))
            finally:
                endpoint.close()

        threads = [
            threading.Thread(target=send, args=(number,), daemon=True)
            for number, part in enumerate(parts)
            if part.get("via") == "xmlrpc"
        ]
        with self._pool.hurried(max(map(duration_of, parts), default=0.0)):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT + 5.0)
        for number, part in enumerate(parts):
            inner = f"{index}.{number}"
            if part.get("via") != "xmlrpc":
                self._step(inner, part)
            else:
                self._record(
                    inner, part, partial(self._answered, part, args[number], answers.get(number))
                )

    def _answered(
        self,
        step: Step,
        args: Sequence[Any],
        came: tuple[Answer, tuple[float, float]] | None,
    ) -> list[Difference]:
        if came is None:
            return [Difference("answer", outcome_of(step), f"none within {TIMEOUT:g} s")]
        return self._compare_answer(step, args, *came)

    def _follow(self, index: str, step: Step) -> None:
        endpoint = self._pool.endpoint("h1").fresh()
        session = self._names.values["<session>"]
        follower = Follower(
            step["classes"],
            lambda classes, token, timeout: endpoint.ask(
                "event.from", [session, list(classes), token, timeout]
            ),
        )
        jobs = step["jobs"]
        for number, job in enumerate(jobs):
            if number:
                time.sleep(GAP / self._pool.rate)
            self._step(f"{index}.{number}", job)
        got, failure = follower.finish(TIMEOUT)
        endpoint.close()
        # The events belong to all jobs; the last one answers for them.
        last = self._results[-1]
        if failure is not None:
            last.differences.append(Difference("follow", "events", failure))
            return
        comparison = FollowComparison(self._comparison)
        last.differences += comparison.differences(recorded_tracks(step["batches"]), got)

    # --- from outside ----------------------------------------------------------------------------------

    def _control(self, step: Step) -> list[Difference]:
        said = {key: value for key, value in step.items() if key not in ("via", "note", "about")}
        texts = [*said, *words_in(said)]
        words = [word.strip("<>").removeprefix("host:") for text in texts for word in text.split()]
        hosts = [word for word in words if word[:1] == "h" and word[1:].isdigit()]
        actions = [word for word in words if "_" in word]
        if not hosts or not actions:
            return [Difference("control", dict(step), "a deed that is not understood")]
        self._pool.control(actions[0], hosts[0])
        return []
