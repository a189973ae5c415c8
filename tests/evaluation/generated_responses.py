"""Seeded responses in the styles in which models answer, for each benchmark that lmms-eval has, in rows of its own format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmark_copies import docs

Made = tuple[dict[str, Any], str, str | None]  # the row, a response, a judge's word on it
_FILLER = "In the video the person first walks to the table, then takes something and goes away again. "
# {x}: the letter meant, {y}: another one, {z}: a third; {text}, {other}: their options' texts; small letters in {lx}
LETTER_STYLES = (
    "{x}", "{x}.", "({x})", "{x})", "{lx}", "({lx})", "{lx}.", "{x}. {text}", "{x}: {text}", "({x}) {text}", "{x}) {text}",
    "{text}", "It is {text}", "The answer is {x}", "The answer is {x}.", "The answer is ({x}).", "The answer is: {x}",
    "The best answer is {x}. {text}", "The correct answer is **{x}**.", "Answer: {x}", "Answer: {x}. {text}", "Option {x}",
    "Best option: {x}", "Best option:({x})", "Option: {x}", "**{x}**", "**{x}. {text}**", "$\\boxed{{{x}}}$", "\\boxed{{{x}}}",
    "<answer>{x}</answer>", "<answer>({x})</answer>", "<answer>{x}. {text}</answer>", "<answer>{lx}</answer>",
    "<think>At first I see one.</think>\n<answer>{x}</answer>", "<think>Is it {y}? No, it is {x}.</think><answer>{x}</answer>",
    "<think>Let me look. Between {y} and {x}, the", "<think>" + _FILLER, "<answer>{x}", "Not {y}, but {x}", "{x} or {y}",
    "{x}, {y}", "Either {y} or {x}.", "{y}? No, {x}.", "It could be {y}. However, it is {x}.", "I'd go with {x}.", "I'd say {text}",
    "I choose {x} because {y} does not fit.", "The answer is {x} because A car stops and a dog runs.", "I select option ({x}).",
    "A) is wrong, B) is wrong, so {x}", "{x} is right since ({y}) and ({z}) are not shown.", "Because of the light, {x}",
    "Looking at the scene, the man is on a boat. So {x}. ", "{y}. {other}\n{x}. {text}", "Options {y} and {z} are out.\n\nAnswer: {x}",
    "Final answer: {x}\nExplanation: {y} never happens.", _FILLER + "Therefore, the final answer is: {x}", _FILLER + "{x}",
    _FILLER.lower(), "Therefore, the final answer is: ${x}$", "My answer is {x}!", "'{x}'", '"{x}"', "{x}!", "{x};", "{x}</s>", " {x}",
    "\n{x}", "{x}\n", "{x} ", "a {text}", "A {text}", "(", ".", "()", "", " ", "\n", "...", "API Error", "I cannot tell.", "cannot say",
    "None of the above", "Both {x} and {y} are correct", "答案是{x}", "答案是 {x}。", "选{x}", "정답은 {x}입니다", "答えは{x}です", "Answer：{x}",
    "{x}/{y}", "{x}-{text}", "{x}:{text}", "{x}{y}", "{x}1", "The answer is {text}.", "the answer is {lx}", "The choice is {x}, not {y}.",
    "The choice is ({y})... wait, ({x})", "DNA, BBC and the USA.", "1,000 people, ({x})", "{x}. 2,5 {text}", "Wait. {x}. Yes.",
)  # fmt: skip
NUMBER_STYLES = (
    "{n}", "{n}.", "{n}.0", " {n}", "{n} ", "\n{n}", "{n}\n", "{n} meters", "{n}m", "{n} m.", "{n}cm", "{n},", "{n}!", "about {n}",
    "About {n} meters.", "There are {n} chairs.", "There are {word} chairs.", "{word}", "{Word}.", "{Word} chairs", "{word} or {n}",
    "{n} or {m}", "{n} to {m}", "{n}-{m}", "{m}-{n}", "between {n} and {m}", "~{n}", "≈{n}", "+{n}", "-{n}", "- {n}", "{n}e0", "1e1", ".5",
    "0.5", "1,200", "1 200", "1_000", "1200", "1.5.2", "one of the {n} rooms", "Room 2 has {n} chairs", "twenty-one",
    "three hundred and twenty-one", "two thousand and five", "thousand", "hundred", "a hundred", "a couple", "a dozen", "several",
    "nan", "inf", "-inf", "none", "No chairs.", "zero", "", " ", "\n", ".", "...", "<answer>{n}</answer>", "<answer>{word}</answer>",
    "<think>I see 2 or 3 of them.</think><answer>{n}</answer>", "<think>Let me count: 1, 2, 3,", "<think>Let me count.</think>{n}",
    "The answer is {n}.", "Answer: {n}", "{n} square meters", "{n} m²", "{n} (about {m})", "\\boxed{{{n}}}", "${n}$", "{n}/2", "{n}%",
    "I count {word} and then {n} more.", "Someone put {n} there", "At least {n}", "Approximately {n}.{m} feet", "{n}.{m}", "3 boxes",
    "The answer cannot be determined.", "twenty one and a half", "forty-{word}", "nine nine", "{n}\nExplanation: {m}", "０", "１２",
)  # fmt: skip
YES_NO_STYLES = (
    "{w}", "{W}", "{W}.", "{W}!", "{W}, he does.", "{W}, the man is dunking a ball.", " {w}", "\n{w}", "{w}\n", "{w} ", "{w}</s>",
    "{W}.</s>", "</s>{w}", "{W} </s>", "<answer>{w}</answer>", "<think>Hm.</think>{w}", "<think>No, wait.</think>{w}", "The answer is {w}.",
    "Answer: {w}", "**{W}**", "'{w}'", "Not sure", "Nothing like that happens", "yesterday he did", "None", "Nope", "Yep", "Y", "N", "Yeah",
    "I think {w}", "He is running.", "", " ", "\n", ".", "{W}{W}", "YES or NO", "It does not.", "Correct", "true", "<think>Let me look at",
)  # fmt: skip
CAPTIONS = ("A man dunks a ball.", "A man stands.", "", "A dog.", "The video shows a man who is dribbling.", "<think>A ball", " A man. ")


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
    return [_letter(rng.choice(rows), style, rng, name == "mmvu") for style in _drawn(LETTER_STYLES, count, rng)]


def _letter(doc: dict[str, Any], style: str, rng: random.Random, judged: bool = False) -> Made:
    """A style with the true letter in every second response. An ideal judge sees what is meant, where a letter is meant."""
    options = doc.get("candidates") or doc.get("options") or doc.get("choices") or doc["question"].split("\n")[1:]
    texts = list(options.values()) if isinstance(options, dict) else [text.partition(". ")[2] or text for text in options]
    letters = "ABCDEFGH"[: len(texts)]
    truth = doc["correct_choice"] if "correct_choice" in doc else doc["answer"]
    gold = letters[truth] if isinstance(truth, int) else letters[texts.index(truth)] if truth in texts else truth[0]
    x = gold if rng.random() < 0.5 else rng.choice(letters)
    y, z = (rng.sample([letter for letter in letters if letter != x], 2) * 2)[:2] if len(letters) > 2 else (letters[0],) * 2
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
    lettered = [_letter(rng.choice(choices), style, rng) for style in _drawn(LETTER_STYLES, count // 2, rng)]
    return lettered + [_numbered(rng.choice(numbers), s, rng) for s in _drawn(NUMBER_STYLES, count - count // 2, rng)]


def _video_mmmu(name: str, count: int, rng: random.Random) -> list[Made]:
    opened = [doc for doc in docs(name) if doc["question_type"] != "multiple-choice"]
    styles = [*NUMBER_STYLES, "{truth}", "so it is {truth}", "The result is {truth}.", "= {truth}", "x\nthus {truth}", "API Error"]
    made = _lettered(name, count * 3 // 4, rng)
    for style in _drawn(styles, count - len(made), rng):
        doc = rng.choice(opened)
        made.append((doc, style.format(truth=doc["answer"], n=3, m=4, word="three", Word="Three"), None))
    return made


def _mvbench(name: str, count: int, rng: random.Random) -> list[Made]:
    """With every tenth row's candidates made one of two equal ones."""
    made = []
    for index, style in enumerate(_drawn(LETTER_STYLES, count, rng)):
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
    words = ("Correct", "Incorrect", "Correct.", "correct", "The prediction is Incorrect", "", None, None)
    made = [_letter(rng.choice(by_form["multi_choice"]), s, rng) for s in _drawn(LETTER_STYLES, count // 2, rng)]
    for style in _drawn(YES_NO_STYLES, count // 4, rng):
        said = rng.choice(["yes", "no"])
        made.append((rng.choice(by_form["yes_no"]), style.format(w=said, W=said.capitalize()), None))
    for style in _drawn(_MATCHING, count // 8, rng):
        made.append(_matching(rng.choice(by_form["caption_matching"]), style, rng))
    made = [(doc, text, rng.choice(words)) for doc, text, _ in made]
    replies = ("Answer: {a}", "Reasoning: he does.\nAnswer: {a}", "{a}", "Answer: A. x or B. y", "Answer: None", "", "invalid", "Answer: a")
    for text in _drawn(CAPTIONS, count - len(made), rng):
        doc = rng.choice(by_form["captioning"])
        made.append((doc, text, rng.choice(replies).format(a=doc["mc_answer"])))
    return made


_MATCHING = (
    "{line}", "{line}.", "{sentence}", "{label}", "{label}.", "{index}", "{index}.", "({index}) {sentence}", "{index}) {sentence}",
    " {line}", "{line}</s>", "{line}\n", "The answer is {label}", "{label}: ", "{sentence} ", "<answer>{label}</answer>", "{label} or both",
    "", " ", "{lower}", "Option", "{index}</s>", "<think>Well,", "{line}\n{line}", "None of them",
)  # fmt: skip


def _matching(doc: dict[str, Any], style: str, rng: random.Random) -> Made:
    line = rng.choice(doc["question"].split("\n")[1:])
    label, _, sentence = line.partition(": ")
    return doc, style.format(line=line, label=label, sentence=sentence, index=label.split()[-1], lower=line.lower()), None


_MAKERS: dict[str, Callable[[str, int, random.Random], list[Made]]] = {
    "vsi_bench": _vsi_bench,
    "video_mmmu": _video_mmmu,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
}
