"""MultiJail's table, on a small file of the same form."""

import pytest
from prompt_makers import SHARED, needs_data

from babelgate.errors import PromptError
from babelgate.prompts import load_prompts

TABLE = (
    "id,source,en,zh,it,vi,ar,ko,th,bn,sw,jv,tags\n"
    "0,Anthropic,\"one, a\",zh1,it1,vi1,ar1,ko1,th1,bn1,sw1,jv1,\"['A & B', 'C']\"\n"
    '1,OpenAI,two,zh2,it2,vi2,ar2,ko2,th2,,sw2,jv2,"Theft"\n'
)


def test_a_checkout_and_a_file(write, tmp_path):
    path = write("data/MultiJail.csv", TABLE)
    prompts = load_prompts(f"multijail:{tmp_path}")
    assert prompts.name == "multijail"
    assert prompts.languages == ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")
    assert len(prompts) == 19
    first = prompts.prompts[0]
    assert (first.id, first.group_id, first.text) == ("multijail-000", "multijail-000", "one, a")
    assert (first.label, first.split, first.category) == ("harmful", "test", "A & B; C")
    assert (first.source, dict(first.extra)) == ("multijail", {"original_source": "Anthropic"})
    assert load_prompts(path).prompts == prompts.prompts
    assert load_prompts(tmp_path).prompts == prompts.prompts
    assert load_prompts(tmp_path / "data").prompts == prompts.prompts
    assert len(load_prompts(path, languages="bn,sw")) == 3


def test_another_table_is_refused(write):
    with pytest.raises(PromptError, match="field 'language' is missing"):
        load_prompts(f"multijail:{write('x.csv', 'id,en,tags' + chr(10) + '1,a,b' + chr(10))}")
    doubled = TABLE.replace("\n1,", "\n0,")
    with pytest.raises(PromptError, match="'multijail-000'"):
        load_prompts(write("y.csv", doubled))


@needs_data
def test_the_shared_files():
    prompts = load_prompts(SHARED / "multijail")
    assert len(prompts) == 6 * 315
    assert len({p.group_id for p in prompts}) == 315
    assert prompts.prompts[0].category == "Sexual exploitation & human trafficking"
    assert {p.source for p in prompts} == {"multijail"}
