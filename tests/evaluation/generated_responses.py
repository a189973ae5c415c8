"""Seeded responses in the styles in which models answer, for each benchmark that lmms-eval has, in rows of its own format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmark_copies import docs

Made = tuple[dict[str, Any], str, str | None]  # the row, a response, a judge's word on it
STYLES: dict[str, list[Any]] = json.loads(Path(__file__).with_name("response_styles.json").read_text())
# Of letters: {x}: the one meant, {lx}: in lower case, {y}: another, {z}: a third; {text}, {other}: texts of x and y. Of numbers:
# {n}: the one meant, {m}: one more, {word}: one in words. Of matching: an option's {line}, its {label}, {sentence}, {index}.


def generate(name: str, count: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """So many lines that `deepvideo score` takes, each with its row; every style comes up before one comes twice."""
    rng = random.Random(f"{name} {seed}")
    make = _MAKERS.get(name, _lettered)
    made = make(name, count, rng)
    return [
        {"id": f"{index}", "doc": doc | _renamed(name, doc, index), "response": text}
        | ({} if reply is None else {"judge_reply": reply})
        for index, (doc, text, reply) in enumerate(made)
    ]


def _renamed(name: str, doc: dict[str, Any], index: int) -> dict[str, Any]:
    """An id for the row that no other has, in the benchmark's form."""
    if name == "video_mme":
        return {"question_id": f"{index:03d}-1"}
    if name in ("mvbench", "tempcompass"):
        return {"index": index}
    if name == "video_mmmu":
        return {"id": f"{doc['id'].rpartition('_')[0]}_{index}"}
    return {"id": f"validation_{index}" if name == "mmvu" else index if name == "vsi_bench" else f"video_{index}"}


def _drawn(styles: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Each style as often as the others, but for one, in a drawn order."""
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(styles, len(styles))
    return drawn[:count]


def _lettered(name: str, count: int, rng: random.Random) -> list[Made]:
    rows = [doc for doc in docs(name) if name != "video_mmmu" or doc["question_type"] == "multiple-choice"]
    return [_letter(rng.choice(rows), style, rng) for style in _drawn(STYLES["letter"], count, rng)]


def _letter(doc: dict[str, Any], style: str, rng: random.Random, judged: bool = False) -> Made:
    """A style whose letter meant is true in half of all, and its second in the others. An ideal judge sees what is meant."""
    options = doc.get("candidates") or doc.get("options") or doc.get("choices") or doc["question"].split("\n")[1:]
    texts = (
        list(options.values()) if isinstance(options, dict) else [text.partition(". ")[2] or text for text in options]
    )
    letters = "ABCDEFGH"[: len(texts)]
    truth = next(doc[name] for name in ("correct_choice", "answer", "ground_truth") if name in doc)
    gold = letters[truth] if isinstance(truth, int) else letters[texts.index(truth)] if truth in texts else truth[0]
    wrong = [letter for letter in letters if letter != gold]
    rng.shuffle(wrong)
    x, y, z = (gold, wrong[0], wrong[-1]) if rng.random() < 0.5 else (wrong[0], gold, wrong[-1])
    told = {"text": texts[letters.index(x)], "other": texts[letters.index(y)]}
    text = style.format(x=x, y=y, z=z, lx=x.lower(), **told)
    meant = x if "{x}" in style or "{lx}" in style or "{text}" in style else "none"
    reply = json.dumps({"extracted_answer": meant, "correct": meant == gold}) if judged else None
    return doc, text, reply


def _numbered(doc: dict[str, Any], style: str, rng: random.Random) -> Made:
    truth = float(doc["ground_truth"])
    n = max(1, round(truth * rng.choice([1, 1, 1.1, 0.9, 1.5])))
    word = rng.choice(["one", "two", "three", "four", "five", "eleven"])
    return doc, style.format(n=n, m=n + 1, word=word, Word=word.capitalize()), None


def _vsi_bench(name: str, count: int, rng: random.Random) -> list[Made]:
    choices = [doc for doc in docs(name) if doc["options"]]
    numbers = [doc for doc in docs(name) if not doc["options"]]
    lettered = [_letter(rng.choice(choices), style, rng) for style in _drawn(STYLES["letter"], count // 2, rng)]
    return lettered + [
        _numbered(rng.choice(numbers), s, rng) for s in _drawn(STYLES["number"], count - count // 2, rng)
    ]


def _video_mmmu(name: str, count: int, rng: random.Random) -> list[Made]:
    opened = [doc for doc in docs(name) if doc["question_type"] != "multiple-choice"]
    styles = STYLES["number"] + STYLES["open"]
    made = _lettered(name, count * 3 // 4, rng)
    for style in _drawn(styles, count - len(made), rng):
        doc = rng.choice(opened)
        made.append((doc, style.format(truth=doc["answer"], n=3, m=4, word="three", Word="Three"), None))
    return made


def _mmvu(name: str, count: int, rng: random.Random) -> list[Made]:
    """Every second row with options that share words; what an ideal judge says stands beside each response."""
    made = []
    salts = ("sodium", "sodium chloride", "calcium chloride", "calcium carbonate", "carbon")
    for index, style in enumerate(_drawn(STYLES["letter"], count, rng)):
        doc = rng.choice(docs(name))
        if index % 2:
            doc = doc | {"choices": dict(zip("ABCDE", salts, strict=True)), "answer": rng.choice("ABCDE")}
        made.append(_letter(doc, style, rng, judged=True))
    return made


def _mvbench(name: str, count: int, rng: random.Random) -> list[Made]:
    """With every tenth row's candidates made one of two equal ones."""
    made = []
    for index, style in enumerate(_drawn(STYLES["letter"], count, rng)):
        doc = rng.choice(docs(name))
        if index % 10 == 0:
            doc = doc | {"candidates": [doc["answer"], "Standing still.", doc["answer"]]}
        made.append(_letter(doc, style, rng))
    return made


def _tempcompass(name: str, count: int, rng: random.Random) -> list[Made]:
    """Half multiple choice, a quarter yes or no, the rest matching and captions; a judge spoke on some."""
    by_form: dict[str, list[dict[str, Any]]] = {}
    for doc in docs(name):
        by_form.setdefault(doc["form"], []).append(doc)
    made = [_letter(rng.choice(by_form["multi_choice"]), s, rng) for s in _drawn(STYLES["letter"], count // 2, rng)]
    for style in _drawn(STYLES["yes_no"], count // 4, rng):
        said = rng.choice(["yes", "no"])
        made.append((rng.choice(by_form["yes_no"]), style.format(w=said, W=said.capitalize()), None))
    for style in _drawn(STYLES["matching"], count // 8, rng):
        made.append(_matching(rng.choice(by_form["caption_matching"]), style, rng))
    made = [(doc, text, rng.choice(STYLES["judge"])) for doc, text, _ in made]
    for text in _drawn(STYLES["caption"], count - len(made), rng):
        doc = rng.choice(by_form["captioning"])
        made.append((doc, text, rng.choice(STYLES["caption_judge"]).format(a=doc["mc_answer"])))
    return made


def _matching(doc: dict[str, Any], style: str, rng: random.Random) -> Made:
    line = rng.choice(doc["question"].split("\n")[1:])
    label, _, sentence = line.partition(": ")
    return (
        doc,
        style.format(line=line, label=label, sentence=sentence, index=label.split()[-1], lower=line.lower()),
        None,
    )


_MAKERS: dict[str, Callable[[str, int, random.Random], list[Made]]] = {
    "vsi_bench": _vsi_bench,
    "video_mmmu": _video_mmmu,
    "mmvu": _mmvu,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
}
