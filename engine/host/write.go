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

// writeScript puts a file in place of another. Its arguments are the path, the
// mode, the owner, the directory for the old file and its name in there, the
// source, and the number of bytes that are expected on standard input. Until
// the rename the old file is untouched, and the new one is removed whatever
// happens. The name begins with a dot, so that the kubelet does not take it
// for a manifest.
const writeScript = `
set -eu
path=$1 mode=$2 owner=$3 save=$4 name=$5 src=$6 size=$7
LC_ALL=C
die() { echo "$1" >&2; exit 1; }
flush() { sync -- "$1" 2>/dev/null || sync; }
file=$(readlink -f -- "$path") || die "its directory does not exist"
[ ! -d "$file" ] || die "is a directory"
dir=${file%/*}
[ -d "${dir:-/}" ] || die "its directory does not exist"
[ -z "$src" ] || [ -f "$src" ] || die "$src: no such file"
tmp= part=
trap 'rm -f -- ${tmp:+"$tmp"} ${part:+"$part"}' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
tmp=$(umask 077 && mktemp "$dir/.certbook.XXXXXXXXXX")
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
		flush "$save${name%/*}"
	fi
	if [ "$(stat -c %u:%g -- "$file")" != "$(stat -c %u:%g -- "$tmp")" ]; then
		chown --reference="$file" -- "$tmp"
	fi
	cp --attributes-only --preserve=mode,xattr -- "$file" "$tmp" 2>/dev/null || :
	chcon --reference="$file" -- "$tmp" 2>/dev/null || :
fi
[ -z "$owner" ] || chown -- "$owner" "$tmp"
if [ -n "$mode" ]; then
	chmod -- "$mode" "$tmp"
elif [ -n "$old" ]; then
	chmod --reference="$file" -- "$tmp"
fi
flush "$tmp"
mv -f -T -- "$tmp" "$file"
tmp=
if [ -z "$old" ] && command -v restorecon >/dev/null 2>&1; then
	restorecon -- "$file" 2>/dev/null || :
fi
flush "${dir:-/}"
`

var ownerName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// WriteFile puts data in place of the file at path.
func (h *Host) WriteFile(ctx context.Context, path string, data []byte, opt engine.FileOptions) error {
	if err := h.write(ctx, path, "", data, opt); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Install puts a copy of src in place of the file at dst.
func (h *Host) Install(ctx context.Context, src, dst string, opt engine.FileOptions) error {
	err := checkPath(src)
	if err == nil {
		err = h.write(ctx, dst, h.file(src), nil, opt)
	}
	if err != nil {
		return fmt.Errorf("install %s as %s: %w", src, dst, err)
	}
	return nil
}

func (h *Host) write(ctx context.Context, dst, src string, data []byte, opt engine.FileOptions) error {
	if err := checkPath(dst); err != nil {
		return err
	}
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
	_, err := h.script(ctx, writeScript, data, engine.MaxOutput,
		h.file(dst), mode, opt.Owner, save, path.Clean(dst), src, strconv.Itoa(len(data)))
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
exec cat -- "$1"
`

// ReadSecret returns the whole content of a file, at most engine.MaxOutput bytes.
func (h *Host) ReadSecret(ctx context.Context, path string) ([]byte, error) {
	err := checkPath(path)
	var out []byte
	if err == nil {
		out, err = h.script(ctx, secretScript, nil, engine.MaxOutput, h.file(path))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}
