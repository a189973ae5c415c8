"""TempCompass's own matching rules, and the judge that scores what they do not match. Defects included."""

from __future__ import annotations

from components.evaluation.benchmarks.contracts import Decoding, JudgeRule, Messages, Scored
from components.shared.schemas import Sample

SOURCE = (
    "llyx97/TempCompass@e1b463166400633e6061962d890a9ae85db29f70 eval_multi-choice.py#main, eval_yes_no.py#main, "
    "eval_caption_matching.py#main, eval_captioning.py#parse_llm_output, utils/eval_utils.py#get_eval_result"
)


def official_score(sample: Sample, text: str) -> Scored:
    """By the question's form. What no rule matches scores 0 (the original's `--disable_llm`) unless a judge speaks.

    Captions have no rules: without a judge they have no score.
    """
    given = cleaned(text)
    if sample.metadata["form"] == "captioning":
        return Scored(score=None, parsed=given, needs_judge=True, failure="captions need a judge")
    right = matched(sample, given)
    if right is None:
        return Scored(score=0.0, parsed=given, needs_judge=True, failure="no rule matches")
    return Scored(score=float(right), parsed=given)


def cleaned(text: str) -> str:
    """A response without end-of-text marks and blanks around it."""
    return text.replace("</s>", "").strip()


def matched(sample: Sample, given: str) -> bool | None:
    """Whether the matching rules of the question's form, which is not captioning, find an answer right; None: no rule matches."""
    rule = {"multi_choice": _choice, "yes_no": _yes_no, "caption_matching": _matching}[sample.metadata["form"]]
    return rule(given, sample)


def _choice(given: str, sample: Sample) -> bool | None:
    """The whole option, a bare letter, or what begins with a letter and a point or bracket, whatever text follows."""
    truth = sample.metadata["raw_answer"]
    if given == truth:
        return True
    if given in ("A", "B", "C", "D") or given[:2] in [f"{letter}{mark}" for letter in "ABCD" for mark in ".)"]:
        return given[0] == truth[0]
    return None


def _yes_no(given: str, sample: Sample) -> bool | None:
    """What begins with yes or no: "yesterday" and "nothing" do."""
    for word in ("yes", "no"):
        if given.lower().startswith(word):
            return word == sample.metadata["raw_answer"]
    return None


def _matching(given: str, sample: Sample) -> bool | None:
    """An option's whole line, its sentence, or its index; of several matches the last kind and option stands."""
    lines, truth = sample.metadata["raw_question"].split("\n")[1:], sample.metadata["raw_answer"]
    parts = [line.split(": ") for line in lines]
    sentences, labels = [part[1] for part in parts], [part[0] for part in parts]
    bare = [label.replace("Sentence ", "").replace("Option ", "").replace("Caption ", "") for label in labels]
    behind = given.split(") ")[1] if ") " in given else None
    matches = [line for line in lines if line == given]
    matches += [sentence for sentence in sentences if sentence in (given, behind)]
    matches += [label for label in labels + bare if label in (given, given.replace(".", ""))]
    if not matches:
        return None
    label = truth.split(": ")[0]
    return matches[-1] in (truth, truth.split(":")[0], truth.split(": ")[1], label.split()[1])


def _judge_messages(sample: Sample, text: str) -> Messages:
    if sample.metadata["form"] == "captioning":
        return _caption_messages(sample, text)
    system = (
        "You compare a prediction with the known answer of a question about a video. Reply with the one word Correct if "
        "the prediction gives that answer, and with the one word Incorrect if it does not."
    )
    facts = f"Question:\n{sample.metadata['raw_question']}\nKnown answer: {sample.metadata['raw_answer']}\nPrediction: {text}"
    return [{"role": "system", "content": system}, {"role": "user", "content": facts}]


def _caption_messages(sample: Sample, text: str) -> Messages:
    system = (
        "You answer a multiple-choice question from a description of a video alone. If the description does not tell, the "
        "answer is: None of the choices are correct. Reply with two lines, `Reasoning: ...` and `Answer: ...`, the answer "
        "being one whole option such as `B. running`."
    )
    facts = f"Description: {text}\nQuestion:\n{sample.metadata['mc_question']}"
    return [{"role": "system", "content": system}, {"role": "user", "content": facts}]


def read_judgement(sample: Sample, reply: str) -> float | None:
    """1, 0, or None for a reply that is no judgement: a lower-case "correct" is none."""
    if sample.metadata["form"] == "captioning":
        return read_caption_judgement(sample, reply)
    if "Correct" not in reply and "Incorrect" not in reply:
        return None
    return float(reply.startswith("Correct") or "Incorrect" not in reply)


def read_caption_judgement(sample: Sample, reply: str) -> float | None:
    """1 if the last line with "Answer" begins with the right letter and names one letter; an empty reply is a failure."""
    if not reply:
        return None
    lines = [line.strip().replace("Answer:", "").strip() for line in reply.split("\n") if "Answer" in line]
    answer = lines[-1] if lines else reply
    named = sum(answer.count(f"{letter}.") for letter in "ABCD")
    return float(named == 1 and answer.split(". ")[0] == sample.metadata["mc_answer"].split(". ")[0])


def failed(sample: Sample) -> float:
    """What a question scores whose judge failed: the original adds -1 to the sum for a caption."""
    return -1.0 if sample.metadata["form"] == "captioning" else 0.0


_DECODING = Decoding(temperature=1.0, max_new_tokens=128)
JUDGE = JudgeRule(_judge_messages, read_judgement, failed, 10, _DECODING)
CAPTION_JUDGE = JudgeRule(_caption_messages, read_caption_judgement, lambda sample: 0.0, 10, _DECODING)
