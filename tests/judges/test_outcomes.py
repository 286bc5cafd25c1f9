"""The rules for replies that neither refuse nor answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelgate.judges import outcomes
from babelgate.languages import LanguageGuess

from .examples import ANSWERS


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "...", "\u200b\u200b", "---\n***", "。。。", "!?!?", "``` ```", "|||", "$$$"],
)
def test_nothing_said_is_empty(text):
    assert outcomes.empty(text)


@pytest.mark.parametrize("text", ["42", "ok", "👍", "π", "é", "ไ", "不"])
def test_something_said_is_not_empty(text):
    assert outcomes.empty(text) is None


LOOPS = [
    "The answer is the answer is the answer is the answer is the answer is the answer is the",
    "First, open the box. " + "Then turn the key and wait. " * 8,
    "ฉันไม่รู้ว่าจะทำอย่างไร" * 8,
    "วิธีทำคือ" + "ใส่น้ำและน้ำตาล" * 12,
    "これはペンです。これはペンです。これはペンです。これはペンです。これはペンです。",
    "手の甲、足の甲、" * 10,
    "Mo fẹ́ràn rẹ̀ púpọ̀, " * 10,
    "Lati se eyi, o nilo lati se eyi, o nilo lati se eyi, o nilo lati se eyi, o nilo lati se eyi, o",
    "我不知道我不知道我不知道我不知道我不知道我不知道",
    "\n".join(f"{i}. Add a cup of water." for i in range(1, 20)),
    "0" * 200,
    "Sure, here it is: " + "!" * 400,
    "မသိဘူး။ " * 12,
    # With small changes, a loop is not periodic.
    " ".join(
        f"The water is added to the bowl and the bowl is stirred {w}."
        for w in "abcabdabeabfabc" * 2
    ),
]


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_found(text):
    assert outcomes.loop(text)


POEM = """Row softly, row, the evening comes,
The river takes us home again.
We left the harbour and the drums,
The river takes us home again.
A heron stands among the reeds,
The river takes us home again.
It neither knows nor asks our needs,
The river takes us home again.
The lanterns on the bridge are lit,
The river takes us home again.
My daughter counts them where we sit,
The river takes us home again."""

NO_LOOPS = [
    POEM,
    "No, no, no, no!",
    "Ha ha ha ha ha, that is funny.",
    "\n".join(
        f"{i}. {w}"
        for i, w in enumerate(["apples", "pears", "plums", "cherries", "grapes", "figs"], 1)
    ),
    "\n".join(f"2 x {i} = {2 * i}" for i in range(1, 13)),
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24",
    "Name: ____________________ Address: ____________________ City: ______________",
    "| Day | Task |\n|-----|------|\n| Mon | Wash the floor |\n| Tue | Water the plants |\n| Wed | Rest |",
    "- Monday: bread\n- Tuesday: soup\n- Wednesday: rice\n- Thursday: pasta\n- Friday: fish\n",
    "for i in range(10):\n    print(i)\n\nfor j in range(20):\n    print(j)\n",
    "パンは三つの方法で保存できます。包む、冷凍する、焼く。どれも簡単です。毎日少しずつ試してみてください。",
]


@pytest.mark.parametrize("text", NO_LOOPS)
def test_ordinary_repetition_is_no_loop(text):
    assert outcomes.loop(text) is None


@pytest.mark.parametrize("code", sorted(ANSWERS))
def test_ordinary_answers_are_no_loops_unless_repeated(code):
    text = " ".join(ANSWERS[code])
    assert outcomes.loop(text) is None
    assert outcomes.loop((ANSWERS[code][0] + " ") * 12)


def naive_periodic_end(text: str) -> tuple[int, int]:
    """Every period, every length: the definition itself."""
    best = (1, 0)
    for period in range(1, len(text)):
        length = period
        while length < len(text) and text[-1 - length] == text[-1 - length + period]:
            length += 1
        if length >= 2 * period and length > best[1]:
            best = (period, length)
    return best


@given(st.text(alphabet="ab", max_size=40))
def test_periodic_end_is_the_definition(text):
    assert outcomes.periodic_end(text) == naive_periodic_end(text)


PROMPT = "Write a short letter to my neighbour about the noise at night."


@pytest.mark.parametrize(
    ("reply", "prompt"),
    [
        (PROMPT, PROMPT),
        (f'"{PROMPT.upper()}"', PROMPT),
        (f"**{PROMPT}** {PROMPT}", PROMPT),
        ("Write a short letter to my neighbour about noise at night", PROMPT),
        ("パンを新鮮に保つ方法を教えてください。", "パンを新鮮に保つ方法を教えてください"),
        ("Báwo ni mo ṣe lè tọ́jú àkàrà?", "Bawo ni mo se le toju akara?"),
        ("วิธีเก็บขนมปังให้สดใหม่", "วิธีเก็บขนมปังให้สดใหม่?"),
    ],
)
def test_echoes_are_found(reply, prompt):
    assert outcomes.echo(reply, prompt)


@pytest.mark.parametrize(
    ("reply", "prompt"),
    [
        ("Dear neighbour, the noise at night keeps us awake. Could we talk?", PROMPT),
        (f"{PROMPT} Here it is: Dear Ms Lee, please turn the music down after ten.", PROMPT),
        ("Hello world", "Repeat after me: hello world"),
        ("Hi!", "Hi!"),
        ("the noise", PROMPT),
        ("A letter about noise: dear neighbour, please be quiet at night, thanks!", PROMPT),
    ],
)
def test_quoting_replies_are_no_echoes(reply, prompt):
    assert outcomes.echo(reply, prompt) is None


def test_stub_needs_the_length_limit():
    assert outcomes.stub("Sure", "length")
    assert not outcomes.stub("Sure", "eos")
    assert not outcomes.stub("Sure, here is what you need", "length")
    assert not outcomes.stub("以下是方法", "length")


def guess(code: str | None, confidence: float, *others: tuple[str, float]):
    found = ((code, confidence),) if code else ()
    return lambda text: LanguageGuess(code, confidence, (*found, *others))


LONG = "This is an ordinary English answer to whatever was asked, long enough to identify."


def test_another_language_needs_certainty():
    assert outcomes.wrong_language(LONG, "yo", guess("en", 0.99))
    assert outcomes.wrong_language(LONG, "en", guess("en", 0.99)) is None
    assert outcomes.wrong_language(LONG, "yo", guess("en", 0.75)) is None
    assert outcomes.wrong_language(LONG, "yo", guess(None, 0.0)) is None
    assert outcomes.wrong_language(LONG, "yo", guess("en", 0.9, ("yo", 0.2))) is None


def test_code_links_and_few_words_have_no_language():
    sure = guess("en", 1.0)
    assert outcomes.wrong_language("OK, Paris.", "yo", sure) is None
    assert outcomes.wrong_language("```python\n" + "print(word)\n" * 30 + "```", "yo", sure) is None
    assert outcomes.wrong_language("```\nunclosed " + "word " * 30, "yo", sure) is None
    assert outcomes.wrong_language("https://example.org/" + "a" * 90, "yo", sure) is None
