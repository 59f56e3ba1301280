"""Git hooks that keep a clone merge-only, and the script that puts them there: plain sh and git, on any machine (S9-R08).

The host has nothing of ours installed, so its hooks need nothing of ours; the same script installs them on both sides. Two
ways, chosen by where git looks for hooks. In the clone's own folder each hook takes the place of the one before, which is
kept as NAME.before-hemma and called. Elsewhere (core.hooksPath: a folder that is committed, or that all clones of a user
share) nothing is changed: git is pointed to a folder of ours, whose hooks call those.
"""

from __future__ import annotations

from lanes import git_harms as harms

# What a hook refuses and what it says. `former` is the hook that was there before; it is called when nothing is refused.
_REFUSE = r"""refuse() {
    printf 'refused  %s\nrule     %s\ndo       %s\n' "$1" "$2" "$3" >&2
    exit 1
}
"""
_PRE_REBASE = (
    _REFUSE
    + r"""refuse 'rebase REWRITES' 'MERGE_ONLY: history only grows' \
    'git merge BRANCH   or   git pull --no-rebase   or   hemma sync'
"""
)
# Git asks this hook only about refs that it would push: without a force, it refuses the others itself.
_PRE_PUSH = (
    _REFUSE
    + r"""is_zero() { case $1 in *[!0]*) return 1 ;; esac; }
judge() {
    if is_zero "$2"; then
        refuse "push would delete $3 there" 'KEEP_REFS: origin only grows' 'leave it, or ask whoever owns the repository'
    elif is_zero "$4" || [ "$2" = "$4" ]; then
        return 0
    fi
    case $3 in refs/tags/*)
        refuse "push would move $3, which is there already" 'KEEP_REFS: a tag stays where it is' 'git tag NEW-NAME' ;;
    esac
    if ! git cat-file -e "$4^{commit}" 2>/dev/null; then
        refuse "$3 has commits there that are not here" 'MERGE_ONLY: origin only moves forward' \
            'git pull --no-rebase   or   hemma sync'
    elif ! git merge-base --is-ancestor "$4" "$2"; then
        refuse "push would take commits away from $3" 'MERGE_ONLY: origin only moves forward' \
            'git pull --no-rebase   or   hemma sync'
    fi
}
lines=$(cat)
printf '%s\n' "$lines" | while IFS= read -r line; do
    [ -n "$line" ] || continue
    # From the right: what was pushed is given as it was typed, and may hold spaces.
    there=${line##* } line=${line% *}
    ref=${line##* } line=${line% *}
    judge "${line% *}" "${line##* }" "$ref" "$there"
done || exit 1
is_called || exit 0
if [ -z "$lines" ]; then "$former" "$@" </dev/null; else printf '%s\n' "$lines" | "$former" "$@"; fi
"""
)
# 75 is a refusal; whatever else comes back, a tool that is broken or gone holds nobody up.
_PRE_COMMIT = r"""if [ "$(git config --get hemma.role)" != host ]; then
    if [ -x "$program" ]; then
        hemma hook pre-commit "$@" </dev/null
        case $? in
            0) ;;
            75) exit 1 ;;
            *) echo 'hemma: whose files these are could not be told; committing all the same' >&2 ;;
        esac
    else
        echo "hemma: $program is gone, so nobody asked whose files these are   (hemma hooks install)" >&2
    fi
fi
"""
_CALL_FORMER = 'is_called || exit 0\nexec "$former" "$@"\n'

# Hooks of a clone that commits and pushes. Those in a folder of our own must all be there, or git would not see the others.
_CLIENT_HOOKS = (
    "applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit prepare-commit-msg commit-msg post-commit"
    " pre-rebase post-checkout post-merge pre-push pre-auto-gc post-rewrite sendemail-validate"
)
# What their mere presence changes, or slows down; these are handed on only where there is one.
_RARE_HOOKS = (
    "pre-receive update post-receive post-update push-to-checkout reference-transaction proc-receive post-index-change"
    " fsmonitor-watchman"
)


def _in_the_judges_words(text: str) -> str:
    """The rules, and what breaks them, as the judge of git calls names them: a hook is that judge where git asks it."""
    for word, said in (
        ("REWRITES", harms.REWRITES.does),
        ("MERGE_ONLY", harms.MERGE_ONLY),
        ("KEEP_REFS", harms.KEEP_REFS),
    ):
        text = text.replace(word, said)
    return text


def _function(name: str, text: str) -> str:
    text = _in_the_judges_words(text)
    return f"{name}() {{ cat <<'END_OF_HOOK'\n{text}END_OF_HOOK\n}}\n"


# `sh -s VERB PLACE [PROGRAM COMMAND]` in the top folder of a clone. VERB: install, remove, status. PLACE: local, host.
# PROGRAM is what must be executable for pre-commit to ask, COMMAND the words for it as a shell reads them.
# It prints facts: a word, a tab, the fact. The folder comes last, since its name may hold anything.
INSTALLER = (
    r"""set -u
LC_ALL=C; export LC_ALL
verb=$1 place=$2 program=${3-} command=${4-}
mark='# hemma-hook'
say() { printf '%s\t%s\n' "$1" "$2"; }
fail() { say refused "$1"; say 'do' "$2"; exit 1; }
must() { "$@" || fail "this failed: $1 $2" 'git config --list --show-origin   (and: df -h .)'; }
is_there() { [ -e "$1" ] || [ -L "$1" ]; }
is_ours() { [ -f "$1" ] && grep -q "^$mark" "$1"; }
digest() { git hash-object --no-filters -- "$1"; }
are_same() { [ -f "$1" ] && [ -f "$2" ] && [ "$(digest "$1")" = "$(digest "$2")" ]; }
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }
"""
    + _function("pre_rebase", _PRE_REBASE)
    + _function("pre_push", _PRE_PUSH)
    + _function("pre_commit", _PRE_COMMIT)
    + _function("call_former", _CALL_FORMER)
    + f"client_hooks='{_CLIENT_HOOKS}'\nrare_hooks='{_RARE_HOOKS}'\n"
    + r"""
case $place in host) ours='pre-rebase pre-push' ;; *) ours='pre-rebase pre-push pre-commit' ;; esac
common=$(git rev-parse --git-common-dir && echo x) || exit 1
common=${common%?x}
top=$(cd "$common" && pwd -P && echo x) || exit 1
own=${top%?x}/hemma-hooks

look() { # where git looks for hooks now, and which of the two ways that makes
    folder=$(git rev-parse --git-path hooks && echo x) || exit 1
    folder=${folder%?x}
    way=around
    if [ "$folder" = "$common/hooks" ] || [ "$folder" -ef "$common/hooks" ]; then way=inside; fi
}

text() { # the hook NAME as it should be
    printf '%s\n' '#!/bin/sh' "$mark $1: hemma hooks remove takes it away, and puts back what was here before."
    if [ "$way" = inside ]; then
        # By its own name: a framework that comes later moves ours aside, and calls it under another.
        echo 'former=${0%/*}'/"$1.before-hemma"
    else
        echo 'former=$(git config --get hemma.hooksfolder)'/"$1"
    fi
    # A hook of the pre-commit framework that is installed again calls the one before it, which would call it again.
    echo 'is_called() {'
    echo '    [ -f "$former" ] && [ -x "$former" ] || return 1'
    echo '    [ -z "${PRE_COMMIT_RUNNING_LEGACY-}" ] || ! grep -q "^# File generated by pre-commit" "$former"'
    echo '}'
    case " $ours " in *" $1 "*) ;; *) call_former; return ;; esac
    case $1 in
        pre-rebase) pre_rebase ;;
        pre-push) pre_push ;;
        pre-commit)
            printf 'program=%s\nhemma() { %s "$@"; }\n' "$(quoted "$program")" "$command"
            pre_commit
            call_former ;;
    esac
}

put() { # the hook NAME into FOLDER
    if [ -x "$2/$1" ] && [ "$(cat "$2/$1")" = "$(text "$1")" ]; then return; fi
    new=$2/$1.new-$$
    text "$1" > "$new" && chmod 755 "$new"
    if [ "$(cat "$new")" != "$(text "$1")" ]; then
        rm -f "$new"
        fail "the hook $1 could not be written" 'df -h .; ls -ld .git/hooks'
    fi
    if is_there "$2/$1" && ! is_ours "$2/$1"; then
        must mv -f "$2/$1" "$2/$1.before-hemma"
        say changed "$1: what was here is kept as $1.before-hemma, and called"
    fi
    must mv -f "$new" "$2/$1"
    case " $ours " in *" $1 "*) say changed "$1: installed" ;; esac
}

take_back() { # the hook NAME out of FOLDER
    if is_there "$2/$1" && ! is_ours "$2/$1"; then
        if is_there "$2/$1.before-hemma"; then say note "$1 is not ours any more; what was before is $1.before-hemma"; fi
    elif is_there "$2/$1.before-hemma"; then
        must mv -f "$2/$1.before-hemma" "$2/$1"
        say changed "$1: what was here before is back"
    elif is_there "$2/$1"; then
        must rm -f "$2/$1"
        say changed "$1: removed"
    fi
}

setting() { git config --local --get "$1"; }

keep_setting() { # KEY as it is now under BEFORE, once, and then VALUE
    if ! setting "$2" >/dev/null; then must git config --local "$2" "$(setting "$1")"; fi
    must git config --local --replace-all "$1" "$3"
}

restore_setting() { # KEY as it was under BEFORE, if it still ends with VALUE
    was=$(setting "$2") || return 0
    is=$(setting "$1")
    if [ "${is%"$3"}" != "$is" ]; then
        if [ -n "$was" ]; then must git config --local --replace-all "$1" "$was"; else git config --local --unset-all "$1"; fi
        say changed "git config $1: as before"
    fi
    git config --local --unset-all "$2"
}

refuse_two() { # two hooks that would both be the one before
    for name in $ours; do
        file=$common/hooks/$name
        if is_there "$file" && ! is_ours "$file" && is_there "$file.before-hemma" && ! are_same "$file" "$file.before-hemma"
        then fail "two hooks are to be kept: $name and $name.before-hemma" "make one of them in $(quoted "$common/hooks"), then again"; fi
    done
}

install() {
    look
    if [ "$way" = inside ]; then
        refuse_two
        must mkdir -p "$folder"
        for name in $ours; do put "$name" "$folder"; done
    else
        around
    fi
    if [ "$(setting pull.rebase)" != false ]; then
        keep_setting pull.rebase hemma.pullrebasebefore false
        say changed 'git config pull.rebase = false'
    fi
    if [ "$place" = host ] && [ "$(setting hemma.role)" != host ]; then
        must git config --local hemma.role host
        say changed 'git config hemma.role = host'
    fi
}

around() {
    if ! [ "$folder" -ef "$own" ]; then
        if [ "$(git config --bool extensions.worktreeConfig)" = true ] && git config --worktree --get core.hooksPath >/dev/null
        then fail 'core.hooksPath is set for this work tree alone' 'git config --worktree --unset core.hooksPath'; fi
        # A clone that was moved still names our folder at its former place: what was before that is known already.
        case $(setting core.hooksPath) in */hemma-hooks) ;; *)
            git config --local --unset-all hemma.hookspathbefore
            must git config --local hemma.hooksfolder "$folder" ;;
        esac
    fi
    before=$(git config --get hemma.hooksfolder)
    must mkdir -p "$own"
    for name in $client_hooks; do put "$name" "$own"; done
    for name in $rare_hooks; do if [ -x "$before/$name" ]; then put "$name" "$own"; fi; done
    if ! [ "$folder" -ef "$own" ]; then
        keep_setting core.hooksPath hemma.hookspathbefore "$own"
        say changed 'git config core.hooksPath = .git/hemma-hooks, whose hooks call those of the folder before'
    fi
}

remove() {
    for name in $ours; do take_back "$name" "$common/hooks"; done
    restore_setting core.hooksPath hemma.hookspathbefore /hemma-hooks
    git config --local --unset-all hemma.hooksfolder
    for name in $client_hooks $rare_hooks; do if is_ours "$own/$name"; then rm -f "$own/$name"; fi; done
    if [ -d "$own" ]; then rmdir "$own" || say note 'something that is not ours lies in .git/hemma-hooks'; fi
    restore_setting pull.rebase hemma.pullrebasebefore false
    if [ "$place" = host ] && [ "$(setting hemma.role)" = host ]; then
        must git config --local --unset-all hemma.role
        say changed 'git config hemma.role: unset'
    fi
}

state() { # of the hook NAME, in one word
    file=$folder/$1
    if ! is_there "$file"; then echo missing
    elif ! is_ours "$file"; then echo replaced
    elif [ -x "$file" ] && [ "$(cat "$file")" = "$(text "$1")" ]; then echo installed
    else echo outdated; fi
}

former() { # whether the hook NAME calls one that was there before
    before=$folder/$1.before-hemma
    if [ "$way" = around ]; then before=$(git config --get hemma.hooksfolder)/$1; fi
    if [ -f "$before" ] && [ -x "$before" ]; then echo calls-former; else echo alone; fi
}

report() {
    look
    for name in $ours; do say hook "$name $(state "$name") $(former "$name")"; done
    say pull.rebase "$(git config --get pull.rebase)"
    say role "$(setting hemma.role)"
    git config --get-regexp '^branch\..*\.rebase$' | grep -v ' false$' | while read -r key _; do
        say note "$key makes git pull a rebase, which the pre-rebase hook refuses"
    done
    say folder "$folder"
}

case $verb in install) install ;; remove) remove ;; esac
report
"""
)
