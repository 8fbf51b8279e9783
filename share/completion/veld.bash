# Completion of veld for bash. `veld __complete` knows what may stand where; this carries the words there and its proposals back.
_veld() {
  local rest=${COMP_LINE:0:COMP_POINT} words=() piece apart=1
  # Bash parts words at = and : too. What stands together in the line is one word; what is behind the cursor does not count.
  for piece in "${COMP_WORDS[@]}"; do
    while [[ $rest == [[:blank:]]* ]]; do
      rest=${rest:1}
      apart=1
    done
    [[ -n $rest && -n $piece ]] || continue
    piece=${piece:0:${#rest}}
    if ((apart)); then words+=("$piece"); else words[${#words[@]} - 1]+=$piece; fi
    rest=${rest:${#piece}}
    apart=0
  done
  [[ ${COMP_LINE:0:COMP_POINT} != *[[:blank:]] ]] || words+=('')

  local typed=${words[${#words[@]} - 1]} breaks=${COMP_WORDBREAKS//[^=:]/} done= mode= value
  # Bash replaces only what follows the last = or :.
  [[ -z $breaks || $typed != *["$breaks"]* ]] || done=${typed%"${typed##*["$breaks"]}"}
  COMPREPLY=()
  while IFS=$'\t' read -r value _; do
    if [[ -z $mode ]]; then mode=$value; else COMPREPLY+=("${value#"$done"}"); fi
  done < <("${words[0]/#\~\//$HOME/}" __complete "${words[@]:1}" 2>/dev/null)
  case $mode in
    :files) compopt -o default ;;
    :open) compopt -o nospace ;;
  esac
}
complete -F _veld veld
