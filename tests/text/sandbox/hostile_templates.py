"""Chat templates that try to run forever, to exhaust memory or to reach Python's internals."""

from __future__ import annotations

DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"

HOSTILE: dict[str, str] = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "long range": "{% for i in range(10**12) %}x{% endfor %}",
    "listed range": "{{ range(10**12)|list }}",
    "negative range": "{{ range(0, -(10**12), -1)|list|length }}",
    "range beyond words": "{{ range(10**40)|length }}",
    "filtered loop": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "repeated text": "{{ 'a' * 10**9 }}",
    "repeated text, reversed": "{{ (10**9 * 'a')|length }}",
    "repeated list": "{{ ([0] * 10**9)|length }}",
    "repeated lists": "{{ ([[0] * 900] * 900)|length }}",
    "power tower": "{{ 9**(9**(9**9)) }}",
    "power by steps": "{% set ns = namespace(x=10) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "doubling by plus": DOUBLING + "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubling by tilde": DOUBLING + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}",
    "doubling by join": DOUBLING + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}",
    "doubling by method": DOUBLING + "{% set ns.x = ''.join([ns.x, ns.x]) %}{% endfor %}{{ ns.x|length }}",
    "doubling by block": DOUBLING + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x|length }}",
    "doubling by macro": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}"
    + DOUBLING
    + "{% set ns.x = m(ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubling by caller": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + DOUBLING
    + "{% set ns.x %}{% call m() %}{{ ns.x }}{% endcall %}{% endset %}{% endfor %}",
    "doubling by replace": DOUBLING + "{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubling by percent": DOUBLING + "{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubling by format": DOUBLING + "{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubling by format filter": DOUBLING + "{% set ns.x = '%s%s'|format(ns.x, ns.x) %}{% endfor %}{{ ns.x|length }}",
    "doubling lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "nested pairs": "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    "{{ ns.x }}",
    "nested pairs as JSON": "{% set ns = namespace(x=1) %}{% for i in range(60) %}"
    "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
    "nested pairs compared": "{% set a = namespace(x=1) %}{% set b = namespace(x=1) %}{% for i in range(60) %}"
    "{% set a.x = (a.x, a.x) %}{% set b.x = (b.x, b.x) %}{% endfor %}{{ a.x == b.x }}",
    "nested pairs by dict": "{% set ns = namespace(x=1) %}{% for i in range(60) %}"
    "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "nested pairs by arguments": "{% macro m(n) %}{% if n %}{{ m(n - 1, varargs, varargs) }}{% else %}{{ varargs }}"
    "{% endif %}{% endmacro %}{{ m(60, 1, 1) }}",
    "wide format": "{{ '%999999999d' % 1 }}",
    "wide format by argument": "{{ '%*d' % (999999999, 1) }}",
    "wide format filter": "{{ '%0999999999d'|format(1) }}",
    "wide format method": "{{ '{:999999999}'.format(1) }}",
    "wide format method by argument": "{{ '{:{w}}'.format(1, w=999999999) }}",
    "wide centre": "{{ 'a'|center(10**9) }}",
    "wide centre by constant": "{{ 'a'|center(1000000000) }}",
    "wide ljust": "{{ 'a'.ljust(10**9) }}",
    "wide zfill": "{{ 'a'.zfill(10**9) }}",
    "wide tabs": "{{ ('\t' * 99999).expandtabs(99999) }}",
    "wide indent": "{{ ('\n' * 99999)|indent(99999) }}",
    "wide JSON": "{{ [[[[[[[[[[1]]]]]]]]]]|tojson(indent=999999999) }}",
    "wide JSON by separator": "{{ ([1] * 99999)|tojson(separators=('a' * 99999, ':')) }}",
    "wide slices": "{{ []|slice(10**9)|list|length }}",
    "wide batch": "{{ [1]|batch(10**9, 0)|list }}",
    "wide bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "wide date": "{{ strftime_now('%0999999999Y') }}",
    "long join": "{{ ('a' * 99999)|join('b' * 99999) }}",
    "long join by method": "{{ ('b' * 99999).join('a' * 99999) }}",
    "long replace": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "long strip": "{{ ('a' * 999999).strip('b' * 999999 + 'a') }}",
    "backward search": "{{ ('a' * 999999).rfind('b' + 'a' * 499999) }}",
    "summed lists": "{{ ([[1]] * 99999)|sum(start=[])|length }}",
    "giant output": "{% set x = 'a' * 99999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "giant output of plain text": "{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}",
    "giant output inside a macro": "{% macro m() %}{% for i in range(99999) %}"
    + "a" * 99999
    + "{% endfor %}{% endmacro %}{{ m()|length }}",
    "giant output inside a block": "{% set x = 'a' * 99999 %}{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}"
    "{% endset %}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "branching macro": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(99) }}",
    "two macros": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "recursive block": "{% block a %}{{ self.a() }}{% endblock %}",
    "deep brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep sum": "{{ " + "1+" * 20_000 + "1 }}",
    "deep blocks": "{% for i in [1] %}" * 60 + "{% endfor %}" * 60,
    "many parts": "{{1}}" * 40_000,
    "long source": "a" * 5_000_000,
    "class": "{{ ().__class__ }}",
    "class by item": "{{ ()['__class__'] }}",
    "class by filter": "{{ ()|attr('__class__') }}",
    "class by map": "{{ [()]|map(attribute='__class__')|list }}",
    "class by format": "{{ '{0.__class__}'.format(()) }}",
    "subclasses": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "builtins": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "environment": "{{ self._TemplateReference__context.environment.call }}",
    "frame": "{{ (messages|map('upper')).gi_frame.f_globals }}",
    "underscore in a namespace": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "changed message": "{{ messages.append(1) }}",
    "changed object": "{{ messages[0].update({'role': 'system'}) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "lorem ipsum": "{{ lipsum(n=99999) }}",
    "division by zero": "{{ 1 // 0 }}",
    "no template": "{% for %}",
    "own error": "{{ raise_exception('roles must take turns') }}",
}
