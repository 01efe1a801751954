"""``diffcf completion bash``: a script by which the shell completes commands and their options.

Options are read off each command's ``--help`` when the script is written, so that completing
imports nothing and answers at once. Where an option or a name is neither, files are completed.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser

from diffcf.commands.main import COMMANDS, main
from diffcf.io import DiffcfError

_OPTION = re.compile(r"(?<![\w-])--[A-Za-z_](?:[\w.]*\w)?")
_TEMPLATE = """\
# Completion of diffcf; written by `diffcf completion {shell}`.
{first}_diffcf() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands} --help --version"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
        case "$current" in
            -*) ;;
            *) words="" ;;
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -o bashdefault -F _diffcf diffcf
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def completion(args: Sequence[str]) -> None:
    """Command ``diffcf completion``; ``--help`` lists the arguments."""
    description = "Print a script that completes commands and options, to be read by your shell."
    parser = ArgumentParser(prog="diffcf completion", description=description)
    parser.add_argument("shell", type=Literal["bash", "zsh"], help="bash or zsh.")
    print(script(parser.parse_args(list(args)).shell), end="")


def script(shell: Literal["bash", "zsh"] = "bash") -> str:
    """The script for a shell."""
    cases = (f'            {name}) words="{" ".join(options(name))}" ;;' for name in COMMANDS)
    return _TEMPLATE.format(
        shell=shell,
        first=_ZSH if shell == "zsh" else "",
        commands=" ".join(COMMANDS),
        cases="\n".join(cases),
    )


def options(command: str) -> list[str]:
    """The options of a command, in the order of its help; none where it cannot be imported."""
    text = io.StringIO()
    with (
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(io.StringIO()),
        # What a command needs may not be installed; it then completes files only.
        contextlib.suppress(SystemExit, DiffcfError, ImportError),
    ):
        main([command, "--help"])
    return list(dict.fromkeys(_OPTION.findall(text.getvalue())))
