package host

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"certbook/engine"
)

// writeScript puts files in place of others. Its arguments are the mode, the
// owner, the directory for the old files and the number of bytes that are
// expected on standard input, then for each file its path, the name that the
// old one gets in that directory, and the source ("": standard input). All files
// are prepared and synced before the first one is renamed; until then the old
// ones are untouched, and the new ones are removed whatever happens. Their
// names begin with a dot, so that the kubelet does not take them for
// manifests. What is about to be replaced is listed beside the old files first
// (engine.ReplacedList). A program that takes several files is started once for
// all of them: a dozen files take most of their time to start programs.
const writeScript = `
set -eu
mode=$1 owner=$2 save=$3 size=$4
shift 4
nl='
'
LC_ALL=C
umask 077
many=
[ $# -le 3 ] || many=1
die() { echo "${many:+$name: }$1" >&2; exit 1; }
flush() { sync -- "$@" 2>/dev/null || sync; }
tmps= parts= # what is removed in the end
clean() {
	IFS=$nl
	set -f
	[ -z "$tmps$parts" ] || rm -f -- $tmps $parts
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

labels=
while read -r kind type; do
	[ "$kind $type" != "nodev selinuxfs" ] || labels=1
done 2>/dev/null <"${CERTBOOK_ROOT:-}/proc/filesystems" || :

unique=$(mktemp -u .certbook.XXXXXXXXXX)
i=0 moves= olds= heirs= pairs= saves= dirs= savedirs= fresh=
prepare() {
	path=$1 name=$2 src=$3
	file=$(readlink -f -- "$path") || die "its directory does not exist"
	case $file in *"$nl"*) die "leads to a name with a newline" ;; esac
	[ ! -d "$file" ] || die "is a directory"
	dir=${file%/*}
	[ -d "${dir:-/}" ] || die "its directory does not exist"
	[ -z "$src" ] || [ -f "$src" ] || die "$src: no such file"
	i=$((i + 1))
	tmp=$dir/$unique.$i
	tmps=$tmps$tmp$nl
	set -C # never into a file that is there
	if [ -n "$src" ]; then
		cat -- "$src" >"$tmp"
	else
		cat >"$tmp"
		[ "$(stat -c %s -- "$tmp")" = "$size" ] || die "only a part of the content has arrived"
	fi
	set +C
	old=
	if [ -e "$file" ]; then
		[ -f "$file" ] || die "is not a regular file"
		old=$file
		olds=$olds$file$nl heirs=$heirs$tmp$nl pairs=$pairs$file$nl$tmp$nl
		if [ -n "$save" ] && [ ! -e "$save$name" ]; then
			savedir=$save${name%/*}
			[ -d "$savedir" ] || mkdir -p -- "$savedir"
			part=$savedir/$unique.$i
			parts=$parts$part$nl
			cp -a -T -- "$file" "$part"
			saves=$saves$part$nl$save$name$nl
			case $nl$savedirs in *"$nl$savedir$nl"*) ;; *) savedirs=$savedirs$savedir$nl ;; esac
		fi
	else
		fresh=$fresh$file$nl
	fi
	moves=$moves$tmp$nl$file$nl$name$nl${old:--}$nl
	case $nl$dirs in *"$nl${dir:-/}$nl"*) ;; *) dirs=$dirs${dir:-/}$nl ;; esac
}
while [ $# -gt 0 ]; do
	prepare "$1" "$2" "$3"
	shift 3
done
IFS=$nl
set -f

if [ -n "$saves" ]; then
	flush $parts
	set -- $saves
	while [ $# -gt 0 ]; do
		mv -n -T -- "$1" "$2"
		shift 2
	done
	flush $savedirs
fi

# The new files become what the old ones are, but for their content.
differ=
if [ -n "$olds" ]; then
	[ "$(stat -c %u:%g -- $olds)" = "$(stat -c %u:%g -- $heirs)" ] || differ=1
fi
set -- $pairs
while [ $# -gt 0 ]; do
	[ -z "$differ" ] || chown --reference="$1" -- "$2"
	cp --attributes-only --preserve=mode,xattr -- "$1" "$2" 2>/dev/null || chmod --reference="$1" -- "$2"
	[ -z "$labels" ] || chcon --reference="$1" -- "$2" 2>/dev/null || :
	shift 2
done
if [ -n "$owner" ]; then
	chown -- "$owner" $tmps
	set -- $pairs
	while [ $# -gt 0 ]; do
		chmod --reference="$1" -- "$2" # a change of owner takes bits away
		shift 2
	done
fi
[ -z "$mode" ] || chmod -- "$mode" $tmps
flush $tmps

if [ -n "$save" ]; then
	now=$(date +%s%N) list=
	sums=$(sha256sum -- $tmps $olds)$nl
	next() { # the sum of the first file of these, into sum
		sum=${sums%%"$nl"*} sums=${sums#*"$nl"}
		sum=${sum#\\} # stands before a name that is quoted
		sum=${sum%% *}
	}
	new=
	for tmp in $tmps; do
		next
		new=$new$sum$nl
	done
	set -- $moves
	while [ $# -gt 0 ]; do
		sum=-
		[ "$4" = - ] || next
		list=$list$(printf '%s\t%s\t%s\t%s' "$now" "$sum" "${new%%"$nl"*}" "$3")$nl
		new=${new#*"$nl"}
		shift 4
	done
	mkdir -p -- "$save"
	printf %s "$list" >>"$save/.certbook-files"
	flush "$save/.certbook-files" "$save"
fi
set -- $moves
while [ $# -gt 0 ]; do
	name=$3
	why=$(mv -f -T -- "$1" "$2" 2>&1) || die "cannot be replaced: ${why##*: }"
	shift 4
done
tmps=
if [ -n "$fresh" ] && command -v restorecon >/dev/null 2>&1; then
	restorecon -- $fresh 2>/dev/null || :
fi
flush $dirs
`

var ownerName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// WriteFile puts data in place of the file at path.
func (h *Host) WriteFile(ctx context.Context, path string, data []byte, opt engine.FileOptions) error {
	if err := h.write(ctx, []engine.Copy{{Dst: path}}, data, opt); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Install puts a copy of src in place of the file at dst.
func (h *Host) Install(ctx context.Context, src, dst string, opt engine.FileOptions) error {
	err := checkPath(src)
	if err == nil {
		err = h.write(ctx, []engine.Copy{{Src: src, Dst: dst}}, nil, opt)
	}
	if err != nil {
		return fmt.Errorf("install %s as %s: %w", src, dst, err)
	}
	return nil
}

// InstallAll puts a copy of each source in place of its file, all of them
// prepared before the first is renamed.
func (h *Host) InstallAll(ctx context.Context, files []engine.Copy, opt engine.FileOptions) error {
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		if err := checkPath(f.Src); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	if err := h.write(ctx, files, nil, opt); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return nil
}

// write puts the files in place; one without a source has data as its content.
func (h *Host) write(ctx context.Context, files []engine.Copy, data []byte, opt engine.FileOptions) error {
	mode := ""
	if opt.Mode != 0 {
		mode = fmt.Sprintf("%04o", opt.Mode.Perm())
	}
	if opt.Owner != "" && !ownerName.MatchString(opt.Owner) {
		return fmt.Errorf("owner %q is not user or user:group", opt.Owner)
	}
	save := ""
	if opt.Save != "" {
		if err := checkPath(opt.Save); err != nil {
			return fmt.Errorf("save: %w", err)
		}
		save = strings.TrimSuffix(h.Path(path.Clean(opt.Save)), "/")
	}
	args := []string{mode, opt.Owner, save, strconv.Itoa(len(data))}
	for _, f := range files {
		if err := checkPath(f.Dst); err != nil {
			return err
		}
		src := f.Src
		if src != "" {
			src = h.file(src)
		}
		args = append(args, h.file(f.Dst), path.Clean(f.Dst), src)
	}
	_, err := h.script(ctx, writeScript, data, engine.MaxOutput, args...)
	return err
}

// checkPath refuses what cannot be the path of one file.
func checkPath(p string) error {
	switch {
	case !path.IsAbs(p):
		return fmt.Errorf("%q is not an absolute path", p)
	case strings.ContainsAny(p, "\n\x00"):
		return fmt.Errorf("%q holds a newline or NUL", p)
	case strings.HasSuffix(p, "/"):
		return fmt.Errorf("%q is not the path of a file", p)
	}
	return nil
}

const secretScript = `
[ -e "$1" ] || { echo "no such file" >&2; exit 1; }
[ -f "$1" ] || { echo "is not a regular file" >&2; exit 1; }
[ -r "$1" ] || { echo "permission denied" >&2; exit 1; }
size=$(stat -L -c %s -- "$1") || exit 1
[ "$size" -le "$2" ] || { echo "has $size bytes; at most $2 are read" >&2; exit 1; }
exec cat -- "$1"
`

// ReadSecret returns the whole content of a file, at most engine.MaxOutput bytes.
func (h *Host) ReadSecret(ctx context.Context, path string) ([]byte, error) {
	err := checkPath(path)
	var out []byte
	if err == nil {
		out, err = h.askScript(ctx, secretScript, engine.MaxOutput, h.file(path), strconv.Itoa(engine.MaxOutput))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}
