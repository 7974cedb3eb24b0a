"""Texts that are known to break screens, terminals, queries or spreadsheets."""

# ruff: noqa: E501, RUF001

from __future__ import annotations

CONTROLS = [
    "", " ", "\t", "\n", "\r\n", "\0", "a\0b", "\x01\x02\x03", "\x07bell", "\x08\x08\x08back",
    "\x0b\x0c", "\x1b[2J\x1b[H", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\y",
    "\x1b[6n", "\x1bP+q544e\x1b\\", "\x9b31m", "\x7f", "\x80\x9f", "\u0085next line", "\u2028line",
    "\u2029paragraph", "over\rwritten", "x\x1b[1A\x1b[2Kgone", "\x0eshift\x0f", "\x1c\x1d\x1e\x1f",
]  # fmt: skip
DIRECTIONS = [
    "\u202enimda", "\u202emoc.elpmaxe", "a\u202eb\u202dc\u202cd", "\u202a\u202a\u202a", "\u202b\u202d",
    "\u2066\u2067\u2068\u2069", "\u2067admin\u2069", "\u2069\u2069", "\u200e\u200f", "\u061cmark",
    "אבג", "אבג 123 (x)", "مرحبا", "مرحبا admin 7", "(\u202e)\u202c", "\u202e" * 60, "user\u202egpj.exe",
]  # fmt: skip
INVISIBLE = [
    "\u200b", "admin\u200b", "ad\u200cmin", "ad\u200dmin", "\u2060\u2060", "\ufeffbom", "\u00adsoft",
    "\u034f", "\u115f\u1160", "\u3164", "\uffa0", "\u180e", "\u2800", "\u00a0nbsp\u00a0", "\u3000wide",
    "\ufffe", "\uffff", "\U000e0041\U000e007f", "\ufe0f\ufe0e", "\ue000private", "\U0010ffff",
]  # fmt: skip
LETTERS = [
    "홍길동", "가각갂", "각", "\u1100\u1161\u11a8", "ㅎㄱㄷ", "김\u0301", "田中さん", "中文", "ไทย", "நி",
    "é", "e\u0301", "Å", "\u212b", "ﬁ", "fi", "\uff21\uff24\uff2d\uff29\uff2e", "\u0430dmin", "ß", "ẞ", "İ", "ı",
    "Z\u0351\u036b\u0343\u036a" + "\u0300\u0315\u0334" * 15, "a" + "\u0e47" * 70, "\u0300alone",
    "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇰🇷", "👍🏿", "\U0001f469\u200d\U0001f4bb", "𝒜𝓭𝓶𝓲𝓷", "ｱｲｳ", "꧁༺༻꧂", "﷽", "𒐫", "ᚠᛇᚻ",
]  # fmt: skip
# A script that runs sets window.naughty; the tests check that it is not set.
MARKUP = [
    "<script>window.naughty=1</script>", "<script src=//127.0.0.1:9/x></script>", "</td><td>x", "</table>",
    "<img src=x onerror=window.naughty=1>", '"><svg onload=window.naughty=1>', "'><b>bold</b>",
    '" onmouseover="window.naughty=1', "' autofocus onfocus='window.naughty=1", "<!--", "-->", "]]>",
    "<![CDATA[x]]>", "</title><script>window.naughty=1</script>", "<iframe srcdoc='x'>", "<style>*{display:none}",
    "<base href=//127.0.0.1:9>", "<meta http-equiv=refresh content=0>", "&lt;b&gt;", "&amp;", "&#60;b&#62;",
    "&", "&nbsp", "<", ">", '"', "'", "`", "javascript:window.naughty=1", "data:text/html,<b>x", "vbscript:x",
    "<a href='javascript:window.naughty=1'>x</a>", "\\u003cscript\\u003e", "<scr\0ipt>", "<ſcript>", "＜script＞",
    "{{ 7 * 7 }}", "{% raw %}", "{{ config }}", "${7*7}", "#{7*7}", "<%= 7 %>", "{{constructor.constructor('x')()}}",
    "${jndi:ldap://127.0.0.1:9/a}", "{0}", "{0.__class__}", "{user}", "%s%s%n", "%(num)d", "%(user)s", "%d", "%", "%%",
]  # fmt: skip
COMMANDS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1+1)", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")', "\t=1+1",
    "' OR 1=1 --", '" OR ""="', "'; DROP TABLE xgen_sessions; --", "1;SELECT pg_sleep(9)", "\\'", "\\", "/*", "*/",
    "%27", "_%_", "*", "$(touch x)", "`id`", "; ls", "| cat", "&& true", "--help", "-rf", "$HOME", "~",
    "../../../etc/passwd", "..\\..\\windows", "/etc/passwd", "C:\\nul", "CON", "file:///etc/passwd", "a/b//c", "?x=1#y",
    "x\r\nSet-Cookie: naughty=1", "x\r\n\r\n<html>", "x%0d%0aSet-Cookie:y", "http://127.0.0.1:9/", "//127.0.0.1:9",
]  # fmt: skip
WORDS = [
    "null", "NULL", "undefined", "NaN", "nan", "None", "true", "True", "false", "nil", "Infinity", "-Infinity", "0", "-0",
    "1e309", "0x1F", "007", "1,000", "1/0", "9" * 40, "2026-05-25", "{}", "[]", '""', "[object Object]", "__proto__",
    "constructor", "-", "SUPER", "everyone", "admin", "127.0.0.1", "::1", "999.1.1.1", "fe80::1%eth0", "198.51.100.7, 10.0.0.1",
]  # fmt: skip
LONG = ["a" * 255, "한" * 255, "😀" * 200, "a " * 120, "W" * 5000, "<b>" * 80, "\u0301" * 255]

NAUGHTY = [*CONTROLS, *DIRECTIONS, *INVISIBLE, *LETTERS, *MARKUP, *COMMANDS, *WORDS, *LONG]
LONE_SURROGATES = ["\ud800", "a\udfffb", "\udc80\udcff", "\ud83d", "\ude00\ud83d"]
"""Valid in a Python string, but in no database, header or terminal."""
