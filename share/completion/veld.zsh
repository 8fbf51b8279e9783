#compdef veld
# Completion of veld for zsh. `veld __complete` knows what may stand where; this carries the words there and its proposals back.
_veld() {
  local -a answer proposals
  local line value program=${words[1]/#\~\//$HOME/}
  answer=("${(@f)$("$program" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  case ${answer[1]} in
    :files)
      _files
      return
      ;;
    :*) ;;
    *) return 1 ;;
  esac
  for line in "${(@)answer[2,-1]}"; do
    value=${line%%$'\t'*}
    proposals+=("${value//:/\\:}:${line#*$'\t'}")
  done
  (( $#proposals )) || return 1
  if [[ ${answer[1]} == :open ]]; then
    _describe -t veld veld proposals -S ''
  else
    _describe -t veld veld proposals
  fi
}
# Autoloaded, this file is the function; sourced, it only tells of it.
if [[ ${funcstack[1]} == _veld ]]; then
  _veld "$@"
else
  compdef _veld veld
fi
