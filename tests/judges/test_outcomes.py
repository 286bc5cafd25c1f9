"""The rules for replies that neither refuse nor answer."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.judges import outcomes
from babelgate.judges.normalise import clean, is_dense
from babelgate.languages import LanguageGuess
from babelgate.prompts import load_prompts
from quick import is_quick

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


def echo_by_sets(text: str, prompt: str) -> bool:
    """The definition with whole sets of n-grams and nothing else."""
    rules = outcomes.RULES
    window = 4 * rules.loop_window
    a, b = (re.sub(r"[\W_]+", "", clean(t[:window])) for t in (text, prompt))
    dense = is_dense(b)
    least = rules.echo_min_chars_dense if dense else rules.echo_min_chars
    if len(a) < least or len(b) < least or len(a) > 3 * len(b):
        return False
    n = rules.echo_gram_dense if dense else rules.echo_gram
    ours, theirs = ({t[i : i + n] for i in range(len(t) - n + 1)} for t in (a, b))
    both = len(ours & theirs)
    if both < rules.echo_of_reply * len(ours):
        return False
    end = a[-(rules.echo_end_dense if dense else rules.echo_end) :]
    part = both >= rules.echo_of_prompt_part * len(theirs) and end in b
    return part or both >= rules.echo_of_prompt * len(theirs)


def is_echo(text: str, prompt: str) -> bool:
    return outcomes.echo(text, prompt) is not None


@st.composite
def near_echoes(draw):
    """A prompt and a reply that has some of it changed: on both sides of the thresholds."""
    alphabet = draw(
        st.sampled_from(["ab", "abcdefghij ", "我不能帮助你做这件事", "abcé👍\ud800 \n*"])
    )
    prompt = draw(st.text(alphabet=alphabet, min_size=8, max_size=120))
    reply = list(prompt)
    for at in draw(st.lists(st.integers(0, len(prompt) - 1), max_size=8)):
        reply[at] = draw(st.sampled_from(["", "x", "yz", prompt[: at + 1], alphabet]))
    return "".join(reply), prompt


@settings(max_examples=600, deadline=None)
@given(near_echoes())
def test_leaving_early_never_changes_an_echo(pair):
    assert is_echo(*pair) == echo_by_sets(*pair)


def test_one_changed_letter_is_an_echo_from_some_length_on():
    """A letter changes five n-grams: 15 % of those of a prompt of 38 letters."""
    letters = "thequickbrownfxjmpsvlazydg0123456789ABCDEFGHIJ"
    for n in range(16, len(letters)):
        prompt = letters[:n].lower()
        reply = f"{prompt[: n // 2]}ж{prompt[n // 2 + 1 :]}"
        assert is_echo(reply, prompt) == echo_by_sets(reply, prompt), n
    assert is_echo(reply, prompt)
    assert not is_echo(f"{letters[:12]}ж{letters[13:24]}", letters[:24])


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_echo_by_the_definition(text, prompt):
    assert is_echo(text, prompt) == echo_by_sets(text, prompt)


def test_starter_prompts_as_replies_to_themselves_and_each_other():
    prompts = load_prompts("starter").prompts
    found = {True: 0, False: 0}
    for i, prompt in enumerate(prompts):
        others = [prompts[(i + step) % len(prompts)].text for step in (1, 7, 280)]
        for reply in (prompt.text, f"{prompt.text} {others[0]}", prompt.text[:-20], *others):
            said = is_echo(reply, prompt.text)
            assert said == echo_by_sets(reply, prompt.text), (reply, prompt.text)
            found[said] += 1
        if len(clean(prompt.text)) > 30:
            assert is_echo(prompt.text, prompt.text), prompt.text
    assert min(found.values()) > 3000


@pytest.mark.parametrize("end", ["", "b"])
def test_an_echo_is_looked_for_in_bounded_time(end):
    """Few different n-grams, each of them at the very end of a monotonous prompt, or nowhere."""
    text = "aaaab" * 2400 + "".join(chr(97 + i * i % 7919 % 8) for i in range(4000))
    prompt = "a" * 15_999 + end
    assert not is_echo(text, prompt)
    assert is_quick(lambda: is_echo(text, prompt), 0.5)


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
