"""Defaults that docstrings tell are those of the signatures."""

import ast
import re

from tiny import ROOT

# an argument of a docstring and what is said of it, up to the next one
ARGUMENT = re.compile(r'^    (\w+) \([^\n]*\):(.*(?:\n(?: {8}.*)?)*)', re.MULTILINE)


def literal(text):
    """The value of a literal, else None."""
    try:
        return [ast.literal_eval(text)]
    except (ValueError, SyntaxError):
        return None


def told(docstring):
    """Names and values of arguments of which it says ``Defaults to``."""
    for name, said in ARGUMENT.findall(docstring):
        found = re.search(r'Defaults\s+to\s+(\S+?)[.,;](\s|$)', said)
        value = found and literal(found[1].strip('`'))
        if value:
            yield name, value


def defaults(function):
    """Values by argument."""
    arguments = function.args
    pairs = [*zip(reversed(arguments.args), reversed(arguments.defaults))]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if d]
    return {argument.arg: literal(default) for argument, default in pairs}


def documented(tree):
    """Functions with the docstring that tells of their arguments."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or not ast.get_docstring(node):
            continue
        made = [n for n in node.body if getattr(n, 'name', '') == '__init__']
        if isinstance(node, ast.FunctionDef) or made:
            yield node.name, (made or [node])[0], ast.get_docstring(node)


def test_docstrings_tell_the_defaults():
    count, wrong = 0, []
    for file in sorted((ROOT / 'mmdiffdet').rglob('*.py')):
        for name, function, docstring in documented(ast.parse(file.read_text())):
            have = defaults(function)
            for argument, value in told(docstring):
                count += 1
                if have.get(argument) != value:
                    wrong.append(f'{file.name} {name}.{argument}: {value}, not {have}')
    assert wrong == [] and count > 40
