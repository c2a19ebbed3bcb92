"""What a command line that does not parse is answered with: option, value, what is allowed."""

import pytest

from experiments.cli import COMMANDS
from experiments.parsing import ParseError, parse

MESSAGES = {
    "train --width abc": "--width 'abc': must be an integer",
    "train --width=1.5": "--width '1.5': must be an integer",
    "train --width=": "--width '': must be an integer",
    "compare --projection-lr x": "--projection-lr 'x': must be a number",
    "exponent --tolerance x": "--tolerance 'x': must be a number",  # a number or nothing
    "train --width": "--width without a value: must be followed by one",
    "derive --layer foo": "--layer 'foo': must be one of embedding, projection, hidden, readout, "
    "head, tied",
    "derive": "--layer is missing: must be one of embedding, projection, hidden, readout, head, "
    "tied",
    "sweep --out a.nc": "--widths, --vocab-sizes, --embedding-lrs, --hidden-lrs are missing: "
    "see dynsim sweep --help",
    "optima": "FILE is missing: see dynsim optima --help",
    "train --widths 3": "--widths is no option of train: the nearest is --width",
    "tokens --rank=3": "--rank is no option of tokens: see dynsim tokens --help",
    "derive --leyer head": "--leyer is no option of derive: the nearest is --layer",
    "train -w 3": "-w is no option of train: the nearest is --width",
    "compare --width 1 2": "compare takes no argument 2: see dynsim compare --help",
}


@pytest.mark.parametrize("line", MESSAGES)
def test_every_mistake_has_the_form_of_an_input_error(line):
    with pytest.raises(ParseError) as raised:
        parse(COMMANDS, line.split())
    assert str(raised.value) == MESSAGES[line]


@pytest.mark.parametrize("joined", [False, True])
def test_a_long_value_is_shortened(joined):
    value = "9 times " * 40
    option = [f"--width={value}"] if joined else ["--width", value]
    with pytest.raises(ParseError) as raised:
        parse(COMMANDS, ["train", *option])
    assert str(raised.value).startswith("--width '9 times 9 times")
    assert str(raised.value).endswith("times ': must be an integer")
    assert len(str(raised.value)) < 130
