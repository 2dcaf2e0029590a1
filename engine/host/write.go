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
// old one gets in that directory, and the source ("": standard input).
//
// The new files are made in a directory beside those that they replace, which
// nobody else may enter; its name begins with a dot, so that the kubelet does
// not look for manifests there. All are prepared and synced before the first one
// is renamed; until then the old ones are untouched, and the new ones are removed
// whatever happens. What is about to be replaced is listed beside the old files
// first (engine.ReplacedList).
//
// Files that follow one another and are in the same directory share one start of
// each program: a dozen files take most of their time for those, and a server
// that reads its key and its certificate should not find only one of them renamed.
// One that cannot be renamed is an error that names it; the others of its
// directory are renamed all the same, and it is the caller who brings all back.
const writeScript = `
set -eu
mode=$1 owner=$2 save=$3 size=$4
shift 4
nl='
'
tab=$(printf '\t')
LC_ALL=C
umask 077
many=
[ $# -le 3 ] || many=1
die() { echo "${many:+$name: }$1" >&2; exit 1; }
flush() { sync -- "$@" 2>/dev/null || sync; }
aside= # directories that are removed in the end
clean() {
	IFS=$nl
	set -f
	[ -z "$aside" ] || rm -rf -- $aside
	aside=
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

labels=
while read -r kind type; do
	[ "$kind $type" != "nodev selinuxfs" ] || labels=1
done 2>/dev/null <"${CERTBOOK_ROOT:-}/proc/filesystems" || :
IFS=$nl
set -f

has() { case $nl$1 in *"$nl$2$nl"*) ;; *) return 1 ;; esac; }
each() { # a function, and pairs of words that it is called with
	run=$1
	shift
	while [ $# -gt 0 ]; do
		"$run" "$1" "$2"
		shift 2
	done
}
into() { # a function, and pairs of a file and a directory: those that follow one another with the same one go together
	run=$1 files= to=
	shift
	while [ $# -gt 0 ]; do
		if [ "$2" != "$to" ]; then
			[ -z "$files" ] || "$run" "$to" $files
			files= to=$2
		fi
		files=$files$1$nl
		shift 2
	done
	[ -z "$files" ] || "$run" "$to" $files
}

unique=$(mktemp -u .certbook.XXXXXXXXXX)
i=0 stages= dirs= tmps= olds= fresh= heirs= pairs= sources= renamed= inherits= renames= moves=
parts= savedirs= kept= saves= links= keeps=
look() {
	path=$1 name=$2 src=$3
	if [ -L "$path" ]; then
		file=$(readlink -f -- "$path") || die "its directory does not exist"
	else
		cd -P -- "${path%/*}/" 2>/dev/null || die "its directory does not exist"
		file=${PWD%/}/${path##*/}
	fi
	case $file in *"$nl"*) die "leads to a name with a newline" ;; esac
	[ ! -d "$file" ] || die "is a directory"
	dir=${file%/*}/ base=${file##*/}
	[ -d "$dir" ] || die "its directory does not exist"
	[ -z "$src" ] || [ -f "$src" ] || die "$src: no such file"
	i=$((i + 1))
	stage=$dir$unique
	! has "$tmps" "$stage/$base" || stage=$stage.$i # two links lead to the file
	tmp=$stage/$base
	tmps=$tmps$tmp$nl
	has "$stages" "$stage" || stages=$stages$stage$nl
	has "$dirs" "$dir" || dirs=$dirs$dir$nl
	case $src in
	*/"$base") sources=$sources$src$nl$stage$nl ;;
	?*) renamed=$renamed$src$nl$tmp$nl ;;
	esac
	old=-
	if [ -e "$file" ]; then
		[ -f "$file" ] || die "is not a regular file"
		old=$file
		olds=$olds$file$nl heirs=$heirs$tmp$nl pairs=$pairs$file$nl$tmp$nl inherits=$inherits$file$nl$stage$nl
		[ -z "$save" ] || [ -e "$save$name" ] || keep
	else
		fresh=$fresh$file$nl
	fi
	renames=$renames$tmp$nl$stage$nl
	moves=$moves$tmp$nl$name$nl$old$nl
}
keep() {
	savedir=$save${name%/*} part=$save${name%/*}/$unique
	! has "$kept" "$part/${name##*/}" || return 0
	kept=$kept$part/${name##*/}$nl
	has "$parts" "$part" || parts=$parts$part$nl savedirs=$savedirs$savedir$nl
	case $name in
	*/"$base") saves=$saves$file$nl$part$nl ;;
	*) links=$links$file$nl$part/${name##*/}$nl ;;
	esac
	keeps=$keeps$part/${name##*/}$nl$savedir$nl
}
while [ $# -gt 0 ]; do
	look "$1" "$2" "$3"
	shift 3
done

copyone() { cp --no-preserve=mode -T -- "$1" "$2"; }
copyall() { to=$1; shift; cp --no-preserve=mode -t "$to" -- "$@"; }
saveone() { cp -a -T -- "$1" "$2"; }
saveall() { to=$1; shift; cp -a -t "$to" -- "$@"; }
keepall() { to=$1; shift; mv -n -t "$to" -- "$@"; }

aside=$stages$parts
mkdir -- $stages # fails when one is there
into copyall $sources
each copyone $renamed
if [ -z "$sources$renamed" ]; then
	cat >"$tmp"
	[ "$(stat -c %s -- "$tmp")" = "$size" ] || die "only a part of the content has arrived"
fi
if [ -n "$parts" ]; then
	mkdir -p -- $parts
	into saveall $saves
	each saveone $links
	flush $kept
	into keepall $keeps
	flush $savedirs
fi

# The new files become what the old ones are, but for their content.
owner() { chown --reference="$1" -- "$2"; }
mode() { chmod --reference="$1" -- "$2"; }
label() { chcon --reference="$1" -- "$2" 2>/dev/null || :; }
plain=
attributes() { to=$1; shift; cp --attributes-only --preserve=mode,xattr -t "$to" -- "$@" 2>/dev/null || plain=1; }
if [ -n "$olds" ]; then
	[ "$(stat -c %u:%g -- $olds)" = "$(stat -c %u:%g -- $heirs)" ] || each owner $pairs
	into attributes $inherits
	[ -z "$plain" ] || each mode $pairs
	[ -z "$labels" ] || each label $pairs
fi
if [ -n "$owner" ]; then
	chown -- "$owner" $tmps
	each mode $pairs # a change of owner takes bits away
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
		[ "$3" = - ] || next
		list=$list$now$tab$sum$tab${new%%"$nl"*}$tab$2$nl
		new=${new#*"$nl"}
		shift 3
	done
	mkdir -p -- "$save"
	printf %s "$list" >>"$save/.certbook-files"
	flush "$save/.certbook-files" "$save"
fi

rename() {
	to=${1%/*}/
	shift
	why=$(mv -f -t "$to" -- "$@" 2>&1) && return
	set -- $moves
	while [ $# -gt 3 ] && [ ! -e "$1" ]; do
		shift 3
	done
	name=$2 why=${why%%"$nl"*} # the first that has not been renamed
	die "cannot be replaced: ${why##*: }"
}
into rename $renames
clean
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
