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
// (engine.ReplacedList).
const writeScript = `
set -eu
mode=$1 owner=$2 save=$3 size=$4
shift 4
nl='
'
LC_ALL=C
many=
[ $# -le 3 ] || many=1
die() { echo "${many:+$name: }$1" >&2; exit 1; }
flush() { sync -- "$@" 2>/dev/null || sync; }
sum() {
	sum=$(sha256sum <"$1")
	echo "${sum%% *}"
}
tmps= part= moves= fresh= dirs=
clean() {
	IFS=$nl
	set -f
	for t in $tmps $part; do rm -f -- "$t"; done
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
prepare() {
	path=$1 name=$2 src=$3
	file=$(readlink -f -- "$path") || die "its directory does not exist"
	[ ! -d "$file" ] || die "is a directory"
	dir=${file%/*}
	[ -d "${dir:-/}" ] || die "its directory does not exist"
	[ -z "$src" ] || [ -f "$src" ] || die "$src: no such file"
	tmp=$(umask 077 && mktemp "$dir/.certbook.XXXXXXXXXX")
	tmps=$tmps$tmp$nl
	if [ -n "$src" ]; then
		cat -- "$src" >"$tmp"
	else
		cat >"$tmp"
		[ "$(stat -c %s -- "$tmp")" = "$size" ] || die "only a part of the content has arrived"
	fi
	old=
	if [ -e "$file" ]; then
		[ -f "$file" ] || die "is not a regular file"
		old=1
		if [ -n "$save" ] && [ ! -e "$save$name" ]; then
			(umask 077 && mkdir -p -- "$save${name%/*}")
			part=$(umask 077 && mktemp "$save${name%/*}/.certbook.XXXXXXXXXX")
			cp -a -T -- "$file" "$part"
			flush "$part"
			mv -n -T -- "$part" "$save$name"
			part=
			flush "$save${name%/*}"
		fi
		if [ "$(stat -c %u:%g -- "$file")" != "$(stat -c %u:%g -- "$tmp")" ]; then
			chown --reference="$file" -- "$tmp"
		fi
		cp --attributes-only --preserve=mode,xattr -- "$file" "$tmp" 2>/dev/null || :
		chcon --reference="$file" -- "$tmp" 2>/dev/null || :
	else
		fresh=$fresh$file$nl
	fi
	[ -z "$owner" ] || chown -- "$owner" "$tmp"
	if [ -n "$mode" ]; then
		chmod -- "$mode" "$tmp"
	elif [ -n "$old" ]; then
		chmod --reference="$file" -- "$tmp"
	fi
	moves=$moves$tmp$nl$file$nl$name$nl
	dirs=$dirs${dir:-/}$nl
}
while [ $# -gt 0 ]; do
	prepare "$1" "$2" "$3"
	shift 3
done
IFS=$nl
set -f
flush $tmps
if [ -n "$save" ]; then
	now=$(date +%s%N) list=
	set -- $moves
	while [ $# -gt 0 ]; do
		name=$3 old=-
		if [ -e "$2" ]; then old=$(sum "$2"); fi
		new=$(sum "$1")
		list=$list$(printf '%s\t%s\t%s\t%s' "$now" "$old" "$new" "$name")$nl
		shift 3
	done
	(umask 077 && mkdir -p -- "$save" && printf %s "$list" >>"$save/.certbook-files")
	flush "$save/.certbook-files" "$save"
fi
set -- $moves
while [ $# -gt 0 ]; do
	name=$3
	why=$(mv -f -T -- "$1" "$2" 2>&1) || die "cannot be replaced: ${why##*: }"
	shift 3
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
		out, err = h.script(ctx, secretScript, nil, engine.MaxOutput, h.file(path), strconv.Itoa(engine.MaxOutput))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}
