"""Chat templates of the model families, and dialogues to render with them."""

# ruff: noqa: E501 (a template's line breaks are part of it)

from __future__ import annotations

from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set first = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set first = false %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% if loop.index0 == 0 and first != false %}"
    "{% set content = '<<SYS>>\\n' + first + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

LLAMA31 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools is not none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("no user message to put the tools into") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {{- "Answer with a call of one of these functions.\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + "}[/TOOL_RESULTS]" }}
    {%- endif %}
{%- endfor %}
"""

ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

PHI = (
    "{% for message in messages %}{% if message['role'] in ['system', 'user', 'assistant'] and message['content'] %}"
    "{{ '<|' ~ message['role'] ~ '|>\n' ~ message['content'] ~ '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

QWEN2 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You help with the work of this company.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou help with the work of this company.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

FEATURES = """{# every construct that templates lean on #}
{%- macro turn(role, content, kind='x') -%}
    [{{ role|upper }}|{{ kind }}]{{ caller() if caller else '' }}{{ content }}
{%- endmacro -%}
{%- set ns = namespace(seen=[], text='', found=false) %}
{% for message in messages if message.role != 'none' %}
    {% if loop.index > 5 %}{% break %}{% endif %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
    {%- set ns.seen = ns.seen + [message.role] %}
    {% generation %}{{ turn(message.role, message.content|default('', true)) }}{% endgeneration %}
    {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.revindex }} {{ loop.previtem is defined }} {{ loop.cycle('a', 'b') }}
    {%- set ns.text = ns.text ~ '/' ~ message.role ~ loop.index0 %}
{% else %}nobody{% endfor %}
{% set block %}captured {{ ns.text }}{% endset %}{{ block|replace('/', '-')|title }}
{% call turn('caller', 'body', kind='y') %}<{{ ns.seen|join(', ') }}>{% endcall %}
{% filter upper %}filtered {{ messages|length }}{% endfilter %}
{{ messages|map(attribute='role')|unique|sort|list }} {{ {'b': 1, 'a': [1, 2.5, none, true]}|tojson }}
{{ {'é': '<&>', 'a': 1}|tojson(indent=2, sort_keys=true) }} {{ ('%s-%05d' % ('a', 42)) }} {{ '{:>6}|{}'.format('x', 2) }}
{{ dict(a=1, b=2).items()|list }} {{ messages[-1].content[:3] }} {{ messages[::-1]|length }} {{ 7 // 2 }} {{ 2 ** 10 }} {{ -7 % 3 }}
{{ 'a,b,c'.split(',')|last }} {{ ' x '.strip() }} {{ 'abc'.startswith('a') }} {{ range(3, 9, 2)|list }} {{ 'yes' if ns.found else 'no' }}
{% for key, value in {'x': 1, 'y': 2}.items() %}{{ key }}={{ value }}{{ ';' if not loop.last }}{% endfor %}
{{ undefined_name is defined }}{{ undefined_name }} {{ none }} {{ 1.0 }} {{ (1, 'a') }} {{ ['é', 1] }} {{ 'x' * 3 }} {{ bos_token|e }}
{% for group in [1, 2, 3, 4, 5]|batch(2, '-') %}{{ group|join }}{% if not loop.last %} {% endif %}{% endfor %}
{% for node in [[1, [2, [3]]]] recursive %}{% if node is iterable %}({{ loop(node) }}){% else %}{{ node }}{% endif %}{% endfor %}
"""

FAMILIES: dict[str, str] = {
    "chatml": CHATML,
    "llama 2": LLAMA2,
    "llama 3": LLAMA3,
    "llama 3.1": LLAMA31,
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
    "gemma": GEMMA,
    "phi": PHI,
    "qwen 2": QWEN2,
    "all constructs": FEATURES,
}

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "cari_tiket",
            "description": 'Mencari tiket; "kutipan", <tag> & é 日本',
            "parameters": {
                "type": "object",
                "properties": {"id": {"type": "integer"}, "teks": {"type": "string", "enum": ["a", "b"]}},
                "required": ["id"],
            },
        },
    },
    {"type": "function", "function": {"name": "jam", "description": "", "parameters": {"type": "object"}}},
]


def call(name: str, arguments: object) -> dict[str, Any]:
    return {"id": "abcdefghi", "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "Halo, apa kabar?"}
ANSWER = {"role": "assistant", "content": " Baik. "}
SYSTEM = {"role": "system", "content": "Jawab dengan singkat.\n"}

DIALOGUES: dict[str, list[dict[str, Any]]] = {
    "one turn": [USER],
    "with system": [SYSTEM, USER],
    "three turns": [USER, ANSWER, USER],
    "three turns with system": [SYSTEM, USER, ANSWER, USER],
    "ends with an answer": [USER, ANSWER],
    "two questions": [USER, USER],
    "system alone": [SYSTEM],
    "unknown role": [{"role": "critic", "content": "No."}],
    "empty content": [{"role": "user", "content": ""}],
    "no content": [{"role": "user"}],
    "content without a value": [USER, {"role": "assistant", "content": None}],
    "spaces and lines": [{"role": "user", "content": "\n\n  a \t b\r\n\x00 \u3000\n"}],
    "scripts": [{"role": "user", "content": "日本語 ру́сский العربية हिन्दी 👩‍👩‍👧‍👦 e\u0301 ﷽"}],
    "Jinja in content": [{"role": "user", "content": "{{ 7 * 7 }} {% raise %} {# x #} %} }}"}],
    "markup in content": [{"role": "user", "content": "<b>&amp;</b> \"'\\ \\n"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "satu"}, {"type": "text", "text": "dua"}]}],
    "tool call": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call("cari_tiket", {"id": 7, "teks": "é <b>"})]},
        {"role": "tool", "content": "[1, 2]", "tool_call_id": "abcdefghi"},
        ANSWER,
        USER,
    ],
    "two tool calls": [
        SYSTEM,
        USER,
        {"role": "assistant", "tool_calls": [call("jam", {}), call("cari_tiket", {"id": 1})]},
        {"role": "tool", "content": "12:00"},
        {"role": "tool", "content": "tidak ada"},
    ],
    "tool answers with an object": [
        USER,
        {"role": "assistant", "tool_calls": [call("jam", {})]},
        {"role": "tool", "content": {"jam": "12:00", "zona": ["WIB", None, 1.5]}},
    ],
}
