/* `slipway completion SHELL`: the scripts are thin. Each hands the words of the line to `slipway __complete`
 * (cli_complete.c), which knows the tables, so that all shells offer the same and none lags behind the program. */
#include <stdio.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

/* bash splits words at '='; that is put right by __complete. */
static const char bash_script[] =
    "# bash completion of slipway. Loaded by bash-completion, or: source <(slipway completion bash)\n"
    "_slipway() {\n"
    "  local word help current=${COMP_WORDS[COMP_CWORD]}\n"
    "  [ \"$current\" != = ] || current=\n"
    "  COMPREPLY=()\n"
    "  while IFS=$'\\t' read -r word help; do\n"
    "    if [ \"$word\" = :files ]; then\n"
    "      compopt -o filenames 2>/dev/null\n"
    "      mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$current\")\n"
    "    else\n"
    "      COMPREPLY+=(\"$word\")\n"
    "    fi\n"
    "  done < <(\"${COMP_WORDS[0]}\" __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _slipway slipway\n";

static const char zsh_script[] =
    "#compdef slipway\n"
    "# zsh completion of slipway. In a folder of $fpath as _slipway, or: source <(slipway completion zsh)\n"
    "_slipway() {\n"
    "  local line described=() files=0\n"
    "  for line in \"${(@f)$(\"${words[1]}\" __complete \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
    "    case $line in\n"
    "      '') ;;\n"
    "      :files*) files=1 ;;\n"
    "      *) described+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
    "    esac\n"
    "  done\n"
    "  (( ! $#described )) || _describe -V slipway described\n"
    "  (( ! files )) || _files\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _slipway ]; then _slipway \"$@\"; else compdef _slipway slipway; fi\n";

static const char fish_script[] =
    "# fish completion of slipway. In a folder of $fish_complete_path as slipway.fish, or: slipway completion fish | source\n"
    "function __slipway_complete\n"
    "  set -l before (commandline -opc)\n"
    "  set -l current (commandline -ct)\n"
    "  for line in ($before[1] __complete $before[2..-1] \"$current\" 2>/dev/null)\n"
    "    if string match -q ':files*' -- $line\n"
    "      __fish_complete_path \"$current\"\n"
    "    else\n"
    "      echo $line\n"
    "    end\n"
    "  end\n"
    "end\n"
    "complete -c slipway -f -a '(__slipway_complete)'\n";

int cli_completion(int argc, char **argv) {
    static const struct {
        const char *shell, *script;
    } scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(scripts); i++)
        if (text_equal(argv[1], scripts[i].shell)) return fputs(scripts[i].script, stdout) < 0 ? EXIT_FAILED : EXIT_OK;
    bool asks = argc == 2 && (text_equal(argv[1], "--help") || text_equal(argv[1], "-h"));
    fprintf(asks ? stdout : stderr,
            "usage: slipway completion bash|zsh|fish\n\n"
            "Prints a script for that shell. Packages install it; by hand, for this shell alone:\n"
            "  bash, zsh  source <(slipway completion bash)\n"
            "  fish       slipway completion fish | source\n");
    return asks ? EXIT_OK : EXIT_USAGE;
}
