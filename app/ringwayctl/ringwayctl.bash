# SPDX-License-Identifier: BSD-3-Clause
# Completion of ringwayctl for bash. It asks ringwayctl itself, which knows each method, and the
# daemon for the names of its ports. To be sourced, or put into /etc/bash_completion.d.

_ringwayctl() {
    # Bash splits words at = and : as well; ringwayctl wants them whole.
    local line=${COMP_LINE:0:COMP_POINT} word kept
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]} - 1]}
    if [[ $word == @* || $word == *=@* ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "${word#*@}")
        # What stands before the last = or @ is no part of what bash replaces.
        [[ $COMP_WORDBREAKS == *@* ]] || COMPREPLY=("${COMPREPLY[@]/#/${word%%@*}@}")
        return
    fi
    mapfile -t COMPREPLY < <("${words[0]}" --complete "${words[@]:1}" 2>/dev/null)
    kept=${word%"${word##*[=:]}"}
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    # A key, and an object behind which more keys follow, go on without a blank.
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -F _ringwayctl ringwayctl
