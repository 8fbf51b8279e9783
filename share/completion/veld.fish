# Completion of veld for fish. `veld __complete` knows what may stand where; this carries the words there and its proposals back.
function __veld_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l program $words[1]
    set -l answer ($program __complete $words[2..-1] "$typed" 2>/dev/null)
    if test "$answer[1]" = ':files'
        __fish_complete_path "$typed"
    else if test (count $answer) -gt 1
        printf '%s\n' $answer[2..-1]
    end
end
complete -c veld -f -a '(__veld_complete)'
