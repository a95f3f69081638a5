#!/usr/bin/env python3
"""Runs random programs on random inputs with this evaluator and with real jq 1.8.1. Shrinks and prints each case in which
their answers differ.

  fuzz.py CASES [--seconds N] [--seed N] [--messages]

CASES is a program that answers cases as oracle.py does (the example `cases` of this package). The exit code is 1 if an
answer differs in a way that docs/expressions.md does not list.
"""
import argparse
import json
import random
import re
import sys
import time

import oracle

MAX_DEPTH = 5
# How many differences are shown at most. After that the run ends.
MAX_SHOWN = 25
# Integers of at least this size are exact here, but rounded in jq.
EXACT_FROM = 2.0**53

FIELDS = ["a", "b", "c", "d", "é"]
STRINGS = ["", "a", "b", "ab", "a b", "abc", "é", "😀x", "A", "1", "-2.5", "a,b", "x\ty", "\u0000", "\"q\"", "[1,2]", "null", "2024-05-06T07:08:09Z", "aXbXa", "%41", "YWI="]
# Numbers without exponents, because jq writes exponents in its own way.
NUMBERS = ["0", "1", "2", "3", "-1", "-2", "10", "0.5", "1.5", "-2.7", "100", "1000", "1.10", "5.0", "0.00001", "-0.0", "0.1", "1234567890123456"]
COMPUTED = ["(1e17+0)", "(1e-5*1)", "(1e300*1)", "(1/3)", "(5e-324*1)", "infinite", "nan", "(0.1+0.2)", "-infinite", "(-0.0*1)"]
PATTERNS = ["a", "b", ".", "", "^", "$", "a*", "(a)", "(?<x>a)|(?<y>b)", "(a)?b", "[ab]+", "\\\\d+", "\\\\w", "(?=b)", "X", "é", "(?<n>[a-z])(?<m>.)?", "[^a]", "a|b", "\\\\bx?", "(?i)A"]
FLAGS = ["null", '"g"', '""', '"i"', '"x"', '"gn"', '"gs"', '"l"']
DATES = ["%Y-%m-%dT%H:%M:%SZ", "%F", "%Y", "%A %d %B %Y", "%j %U %w %e", "%s", "%c", "%D %T", "%H:%M", "%y %C", "%G-W%V-%u", "%I %p", "%Z %z", "%b %d", "%-d|%_d|%^a", "%q"]
ATOMS = """. . . . .a .b .c .a.b .[0] .[1] .[-1] .["a"] .é? .[] .[]? .[]? .a? .[0]? .. .[1:] .[:1] .[-2:] .[:-1] .[1:2]? null true false
[] {} empty not length utf8bytelength keys keys_unsorted values nulls booleans numbers strings arrays objects iterables scalars type tostring
tonumber toboolean tojson fromjson add any all flatten reverse sort unique min max first last ascii_downcase ascii_upcase explode implode to_entries
from_entries floor ceil round sqrt abs fabs trunc significand logb frexp modf isinfinite isnan isnormal isfinite infinite nan transpose tostream paths
combinations trim ltrim rtrim recurse gmtime mktime todate fromdate normals finites @text @json @csv @tsv @html @uri @urid @sh @base64 @base64d
$__loc__ splits("a") getpath([]) (builtins|type) tojson|fromjson tostream|tojson""".split()
BINARY = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or", "//", ",", "|"]
ASSIGN = ["=", "|=", "+=", "-=", "*=", "/=", "%=", "//="]
ONE = """map({}) map_values({}) select({}) path({}) del({}) [path({})] with_entries({}) sort_by({}) group_by({}) unique_by({}) min_by({}) max_by({})
any({}) all({}) first({}) last({}) isempty({}) add({}) [{}] ({}) -({}) ({})? try({}) [limit(6;recurse({}))] walk({}) pick({}) paths({}) error({}) has({})
contains({}) inside({}) index({}) rindex({}) indices({}) startswith({}) endswith({}) ltrimstr({}) rtrimstr({}) trimstr({}) join({}) split({}) getpath({})
delpaths({}) flatten({}) range({}) in({}) bsearch({}) INDEX({}) IN({}) [limit(4;repeat({}))] nth({}) fromstream({}) combinations({}) format({})
[.[]?|{}] (..|{}) [..|{}] .[{}] .[{}]? .[{}:] .[:{}] ."a\\({})" "x\\({})y" "\\({})" @json"\\({})" @csv"\\({})" @base64"\\({})" @html"<\\({})>" {{a:{}}} {{({}):1}}
{{a:1}}+{} label$l|{} ltrimstr("a")|{} (def~f:{};f) (def~f($x):$x+1;f({})) (def~f(g):g|g;f({})) truncate_stream({}) [limit(9;.[]?|{})]
[path(({})?)] (try~path({})~catch~.) del(({})?) pick(({})?) [paths(({})?)] -(.|{}) to_entries|{} with_entries(.value|={})""".split()
ONE = [one.replace("~", " ") for one in ONE]
TWO = """any({};{}) all({};{}) limit({};{}) skip({};{}) nth({};{}) first({})|{} [while({};{})|1] until({};{}) setpath({};{}) range({};{}) pow({};{}) IN({};{}) INDEX({};{})
fmin({};{}) fmax({};{}) ldexp({};{}) copysign({};{}) recurse({};{}) [{},{}] {{a:{},b:{}}} {{({}):{}}} .[{}:{}] [{}|{}] ({}|{}) (try({})catch({})) ({}//{}) ({}as$v|{})
({}as[$v]|{}) ({}as{{a:$v}}|{}) ({}as{{$a}}|{}) ({}as[$v,$w]|{}) ({}as[$v]~?//~$v|{}) ({}as[[$v]]~?//~{{a:$v}}|{}) (reduce~{}as$v(null;{})) (reduce~{}as$v(.;{}))
[foreach~{}as$v(null;{})] (label$l|{}|if~{}then~break$l~else~.end) (if~{}then~{}end) (def~f:{};{}) (def~f(g):{};f({})) (def~f($x):{};f({})) "\\({})\\({})"
JOIN({};{}) (path({})|{}) [splits("a")]|{}|{} ({})|=({}) ({})=({}) ({})+=({})
(({})?|=({})) (({})?//=({})) path(({})and({})) path({}as[$v]|{}) [path({}as{{a:$v}}~?//~$v|{})] (reduce~{}as[$v](.;{})) [foreach~{}as{{$a}}(.;{})] path(reduce~{}as[$v](.;{})) path(foreach~{}as$v(.;{}))
test({};{}) [match({};{})] sub({};{}) gsub({};{}) split({};{}) ltrimstr({})|{}""".split()
TWO = [two.replace("~", " ") for two in TWO]
THREE = """(if~{}then~{}else~{}end) (if~{}then~{}elif~.then~{}end) (reduce~{}as$v({};{})) [foreach~{}as$v({};{})] range({};{};{}) ({}as$v|{}as$w|{}) (try({})catch({})|{}) [{},{},{}]
fma({};{};{}) JOIN({};{};{}) (label$l|{},(label$m|{},break$l),{}) ({}|{}|{})""".split()
THREE = [three.replace("~", " ") for three in THREE]


class Tree:
    """A part of a program: a template and the parts that fill it."""

    def __init__(self, template, *parts):
        self.template, self.parts = template, parts

    def __str__(self):
        return self.template.format(*self.parts) if self.parts else self.template

    def smaller(self):
        """Programs with one part less, or with a part made smaller."""
        if self.template != ".":
            yield from self.parts
            yield Tree(".")
        for at, part in enumerate(self.parts):
            for small in part.smaller():
                yield Tree(self.template, *self.parts[:at], small, *self.parts[at + 1 :])


def written(template):
    """A template with spaces around its words, and in parentheses whatever must be a term."""
    template = re.sub(r"\{\}as(?=[\[${])", "({}) as ", template)
    template = re.sub(r"(?<=[abx]):\{\}", ":({})", template)
    return re.sub(r"\b(if|then|elif|else|end|reduce|foreach|catch)\b", r" \1 ", template)


# Names that the parts of a program use.
FRAME = "def f: .[0]?; (.a? // 1) as $v | [1,2] as $w | \"a\" as $a | label $l | {}"


class Generator:
    def __init__(self, rng):
        self.rng = rng

    def program(self, depth=MAX_DEPTH):
        rng = self.rng
        roll = rng.random()
        if depth == 0 or roll < 0.12:
            return Tree(self.atom())
        if roll < 0.42:
            template = written(rng.choice(ONE))
            # Otherwise most programs would fail early.
            return Tree(f"({template})?" if rng.random() < 0.4 else template, self.program(depth - 1))
        if roll < 0.58:
            operator = rng.choice(BINARY)
            template = "{} " + operator + " {}"
            # Without parentheses the parsers have to apply precedence.
            return Tree(template if rng.random() < 0.2 else f"({template})", self.program(depth - 1), self.program(depth - 1))
        if roll < 0.66:
            template = "({} " + rng.choice(ASSIGN) + " {})"
            return Tree(template, self.path(min(depth - 1, 2)), self.program(depth - 2 if depth > 1 else 0))
        if roll < 0.80:
            return Tree(written(rng.choice(TWO)), self.program(depth - 1), self.program(depth - 1))
        if roll < 0.87:
            return Tree(written(rng.choice(THREE)), *(self.program(depth - 1) for _ in range(3)))
        if roll < 0.95:
            return Tree("({} | {})", self.text(), self.regex())
        return Tree("({} | {})", self.program(0), self.date())

    def path(self, depth):
        rng = self.rng
        if depth <= 0 or rng.random() < 0.3:
            return Tree(rng.choice([".", ".a", ".b", ".[0]", ".[]?", ".[-1]", ".[1:]", ".[:1]", ".a.b", "..", ".[1]", ".[0:2]", ".c[0]", "empty", "first", "last"]))
        template = rng.choice(["({}|{})", "({},{})", "({}//{})", "first({})", "limit(1;{})", "({}|select({}))", "getpath([\"a\"])", "(if {} then {} else . end)", "{}?", "(.. | {})", "last({})", "recurse({})?", "skip(1;{})"])
        return Tree(template, *(self.path(depth - 1) for _ in range(template.count("{}"))))

    def atom(self):
        roll = self.rng.random()
        if roll < 0.15:
            return self.rng.choice(NUMBERS if roll < 0.1 else COMPUTED)
        if roll < 0.3:
            return json.dumps(self.rng.choice(STRINGS), ensure_ascii=False)
        if roll < 0.36:
            return self.rng.choice(["$v", "$w", "$a", "f", "break $l", "$v", "f"])
        if roll < 0.42:
            return self.value(2)
        return self.rng.choice(ATOMS)

    def text(self):
        if self.rng.random() < 0.3:
            return Tree(self.rng.choice([".a", ".", ".[]?", "tostring", "strings"]))
        return Tree(json.dumps("".join(self.rng.choice(["a", "b", "X", "é", "😀", " ", "1", "\n", "aa"]) for _ in range(self.rng.randrange(6))), ensure_ascii=False))

    def regex(self):
        rng = self.rng
        pattern, flags = '"' + rng.choice(PATTERNS) + '"', rng.choice(FLAGS)
        templates = ["test({p};{f})", "[match({p};{f})]", "[match({p};\"g\").offset]", "capture({p};{f})", "[scan({p})]", "[scan({p};{f})]", "sub({p};\"-\")", "gsub({p};\"<\\(.x)>\")", "gsub({p};\"-\";{f})", "[splits({p};{f})]", "split({p};{f})", "[match([{p},{f}])|.string]", "gsub({p};\"1\",\"2\")", "sub({p};\"\\(.n)\";\"g\")"]
        return Tree(rng.choice(templates).replace("{p}", pattern).replace("{f}", flags))

    def date(self):
        rng = self.rng
        form = json.dumps(rng.choice(DATES))
        seconds = rng.choice(["0", "1700000000", "-1", "951782400.5", "1e10", "-62135596800", "4102444800", ".", "1709164800"])
        return Tree(rng.choice([f"({seconds}|strftime({form}))", f"({seconds}|strftime({form})|strptime({form}))", f"({seconds}|gmtime|mktime)", f"([2024,{rng.randrange(-3, 15)},{rng.randrange(-3, 40)},{rng.randrange(30)}]|mktime,todate)", f"({seconds}|gmtime|strftime({form}))", f"({seconds}|todate|fromdate)", f"(strptime({form}))"]))

    def value(self, depth=3):
        rng = self.rng
        roll = rng.random()
        if depth == 0 or roll < 0.45:
            return rng.choice(["null", "true", "false", rng.choice(NUMBERS), rng.choice(NUMBERS), json.dumps(rng.choice(STRINGS))])
        items = [self.value(depth - 1) for _ in range(rng.randrange(4))]
        if roll < 0.72:
            return "[" + ",".join(items) + "]"
        keys = rng.sample(FIELDS, len(items))
        return "{" + ",".join(json.dumps(key) + ":" + item for key, item in zip(keys, items)) + "}"


def is_same_number(left, right):
    """Whether a number of jq and one of this evaluator are the same by the documented differences."""
    if left == right:
        return True
    a, b = float(left), float(right)
    a, b = (max(-sys.float_info.max, min(sys.float_info.max, number)) for number in (a, b))
    return a == b and (abs(a) >= EXACT_FROM or a == 0 or "E" in left)


REFUSED_EARLY = re.compile("Regex failure|is not a valid modifier string|as object key")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def is_same(left, right):
    """Whether two texts are the same but for integers that are exact here."""
    if left == right:
        return True
    if NUMBER.sub("#", left) != NUMBER.sub("#", right):
        return False
    return all(map(is_same_number, NUMBER.findall(left), NUMBER.findall(right)))


def parts(answer):
    """The outputs as one text, whether it failed, and how."""
    value = json.loads(answer)
    if "refused" in value:
        return "refused", False, value["refused"]
    end = answer.rindex(',"error":') if "error" in value else len(answer) - 1
    return answer[:end], "error" in value, value.get("error", "")


class Fuzz:
    def __init__(self, cases, messages):
        self.jq = oracle.Oracle()
        self.ours = oracle.Oracle([cases])
        self.messages = messages
        self.stopped = 0

    def difference(self, program, text):
        """Both answers if they differ."""
        line = f'{{"program":{json.dumps(str(program))},"input":{text}}}'.encode()
        theirs = self.jq.ask(line).decode()
        if theirs.startswith('{"stopped"'):
            self.stopped += 1
            return None
        ours = self.ours.ask(line).decode()
        if ours.startswith('{"stopped"'):
            return theirs, ours
        if '"refused"' in ours and REFUSED_EARLY.search(ours):
            # Constant patterns and keys are checked when the program is compiled.
            return None
        (left, left_fails, left_message), (right, right_fails, right_message) = parts(theirs), parts(ours)
        if left_fails == right_fails and is_same(left, right):
            if not self.messages or not left_fails or left_message == right_message:
                return None
        return theirs, ours

    def shrink(self, program, text):
        tries = 0
        is_smaller = True
        while is_smaller and tries < 400:
            is_smaller = False
            for small in program.smaller():
                tries += 1
                if len(str(small)) < len(str(program)) and self.difference(small, text):
                    program, is_smaller = small, True
                    break
            for small in smaller_values(text):
                tries += 1
                if len(small) < len(text) and self.difference(program, small):
                    text, is_smaller = small, True
                    break
        return program, text


def smaller_values(text):
    value = oracle.read(text)
    yield "null"
    if isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield oracle.text_of(part)
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys:
            rest = {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else value[:key] + value[key + 1 :]
            yield oracle.text_of(rest)
            for small in smaller_values(oracle.text_of(value[key])):
                copy = dict(value) if isinstance(value, dict) else list(value)
                copy[key] = oracle.read(small)
                yield oracle.text_of(copy)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cases")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--messages", action="store_true")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = Generator(random.Random(seed))
    fuzz = Fuzz(options.cases, options.messages)
    end, count, shown = time.monotonic() + options.seconds, 0, set()
    while time.monotonic() < end and len(shown) < MAX_SHOWN:
        program, text = Tree(FRAME, generator.program()), generator.value()
        count += 1
        if fuzz.difference(program, text):
            program, text = fuzz.shrink(program, text)
            theirs, ours = fuzz.difference(program, text) or ("", "")
            kind = (program.template, theirs[:40], ours[:40])
            if kind not in shown:
                shown.add(kind)
                print(f"\n{program}\n  on    {text}\n  jq    {theirs[:300]}\n  here  {ours[:300]}", flush=True)
    print(f"{count} programs, of which {fuzz.stopped} without an answer of jq; {len(shown)} kinds of differences")
    sys.exit(bool(shown))


if __name__ == "__main__":
    main()
