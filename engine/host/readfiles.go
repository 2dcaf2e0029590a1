package host

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"certbook/engine"
)

const (
	maxFiles = 4096     // of one ReadFiles
	maxTotal = 64 << 20 // bytes of one ReadFiles
)

// readScript finds the files and says of each what it is; statistics, real
// paths and contents come from one stat, one readlink and one awk for all of
// them. Arguments: the awk program, the limits, the root directory or "",
// and the patterns. Names never contain a newline: the field separator is one.
//
// A list entry is a letter and the path: r is a file to read, the others are
// reasons why it is not read (see reasons).
const readScript = `
prog=$1 most=$2 size=$3 total=$4 root=$5
shift 5
cd -- "${root:-/}" || exit 1
nl='
'
IFS=$nl
joined=$*
set -- $joined
if [ $# -gt "$most" ]; then echo "X more than $most files match"; exit 0; fi
set -f
all= real=
for f do
	if [ -e "$f" ]; then
		case $f in *"$nl"*)
			out= rest=$f
			while :; do
				case $rest in *"$nl"*) ;; *) break ;; esac
				out=$out${rest%%"$nl"*}? rest=${rest#*"$nl"}
			done
			all=${all}n$out$rest$nl
			continue ;;
		esac
		real=$real$f$nl
		if [ -d "$f" ]; then k=d
		elif [ ! -f "$f" ]; then k=o
		elif [ ! -r "$f" ]; then k=p
		else k=r
		fi
		all=$all$k$f$nl
	elif [ -L "$f" ]; then
		case $f in *"$nl"*) ;; *) all=${all}l$f$nl ;; esac
	fi
done
set -- $real
if [ $# -gt 0 ]; then
	{
		stat -L -c '%f %u %g %s %.9Y' -- "$@"
		echo
		readlink -f -- "$@"
	} 2>/dev/null
else
	echo
fi | {
	set -- $all
	LC_ALL=C awk "$prog" "$size" "$total" "$root" "$@"
}
`

// readAWK prints frames: a letter, a space and a value, or + and a line of a
// file. Its redact follows the same rules as redact.go, which explains them.
const readAWK = `
BEGIN {
	most = ARGV[1] + 0; left = ARGV[2] + 0; root = ARGV[3]
	while ((getline line < "-") > 0 && line != "") st[++ns] = line
	while ((getline line < "-") > 0) rp[++nr] = line
	for (i = 4; i < ARGC; i++) if (ARGV[i] ~ /^[rdop]/) want++
	if (ns != want || nr != want) { print "X files changed while they were read"; exit }
	for (i = 4; i < ARGC; i++) {
		kind = substr(ARGV[i], 1, 1); file = substr(ARGV[i], 2)
		if (file in seen) { if (kind ~ /[rdop]/) n++; continue }
		seen[file] = 1
		print "F " file
		if (kind !~ /[rdop]/) { print "E " kind; continue }
		n++
		print "S " st[n]
		print "T " rp[n]
		split(st[n], f, " ")
		if (kind != "r") { print "E " kind; continue }
		if (f[4] + 0 > most) { print "E s"; continue }
		left -= f[4]
		if (left < 0) { print "X the files are larger than " ARGV[2] " bytes together"; exit }
		cat(file, most)
	}
	print "Z"
	exit
}
function cat(file, most,   line, rc, size) {
	pem = 0; drop = -1; pend = 0; quo = ""; red = 0; size = 0
	while ((rc = (getline line < file)) > 0) {
		size += length(line) + 1
		if (size > most + 1) break
		redact(line)
	}
	close(file)
	if (rc < 0) print "E u"
	else if (rc > 0) print "E s"
	else print "D " red
}
` + redactAWK

// reasons are why a file has no Data; s is that it is too large.
var reasons = map[string]string{
	"d": "is a directory",
	"o": "is not a regular file",
	"p": "permission denied",
	"l": "is a symbolic link that leads nowhere",
	"n": "has a newline in its name",
	"u": "cannot be read",
}

// TooLarge says why a file of size bytes has no Data.
func TooLarge(size int64) string {
	if size <= engine.MaxFileSize {
		return fmt.Sprintf("is larger than it says; at most %d bytes are read", engine.MaxFileSize)
	}
	return fmt.Sprintf("has %d bytes; at most %d are read", size, engine.MaxFileSize)
}

// ReadFiles returns the files that match the patterns, without their secrets.
func (h *Host) ReadFiles(ctx context.Context, patterns ...string) ([]engine.File, error) {
	args := []string{readAWK, strconv.Itoa(maxFiles), strconv.Itoa(engine.MaxFileSize), strconv.Itoa(maxTotal), h.root}
	for _, p := range patterns {
		if !path.IsAbs(p) || strings.Contains(p, "\n") {
			return nil, fmt.Errorf("read files: %q is not an absolute path or pattern", p)
		}
		if h.root != "" {
			p = "." + p
		}
		args = append(args, p)
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	out, err := h.askScript(ctx, readScript, maxTotal+maxTotal/8, args...)
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	files, err := parseFiles(out)
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	for i := range files {
		f := &files[i]
		if h.root != "" {
			f.Path = strings.TrimPrefix(f.Path, ".")
			f.Target = h.unroot(f.Target)
		}
		if f.Target == f.Path {
			f.Target = ""
		}
	}
	if h.root != "" {
		return h.below(ctx, files)
	}
	return files, nil
}

// parseFiles reads the frames that readAWK prints.
func parseFiles(out []byte) ([]engine.File, error) {
	var files []engine.File
	var data []byte
	for len(out) > 0 {
		line, rest, ok := cutLine(out)
		if !ok {
			return nil, fmt.Errorf("the answer ends within a line")
		}
		out = rest
		if line[0] == '+' {
			data = append(append(data, line[1:]...), '\n')
			continue
		}
		key, value, _ := strings.Cut(string(line), " ")
		switch key {
		case "X":
			return nil, fmt.Errorf("%s", value)
		case "Z":
			return files, nil
		case "F":
			if len(files) == maxFiles {
				return nil, fmt.Errorf("the answer has more than %d files", maxFiles)
			}
			files = append(files, engine.File{Path: value})
			data = nil
			continue
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("unexpected answer %.80q", line)
		}
		if err := frame(&files[len(files)-1], key, value, data); err != nil {
			return nil, fmt.Errorf("%s: %w", files[len(files)-1].Path, err)
		}
	}
	return nil, fmt.Errorf("the answer is incomplete")
}

func cutLine(b []byte) (line, rest []byte, ok bool) {
	for i, c := range b {
		if c == '\n' {
			return b[:i], b[i+1:], i > 0
		}
	}
	return nil, nil, false
}

// frame adds one frame to a file.
func frame(f *engine.File, key, value string, data []byte) error {
	if (key == "D" || key == "E") && (f.Data != nil || f.Err != "") { // it was told already
		return fmt.Errorf("unexpected answer %.80q", key)
	}
	switch key {
	case "T":
		f.Target = value
	case "E":
		f.Err = reasons[value]
		if value == "s" {
			f.Err = TooLarge(f.Size)
		}
		if f.Err == "" {
			return fmt.Errorf("unexpected reason %.80q", value)
		}
	case "S":
		return statFrame(f, value)
	case "D":
		dataFrame(f, value == "0", data)
	default:
		return fmt.Errorf("unexpected answer %.80q", key)
	}
	return nil
}

// dataFrame takes the lines that came for a file; whole when the host has taken
// nothing out of them.
func dataFrame(f *engine.File, whole bool, data []byte) {
	n := int64(len(data))
	switch {
	case n > engine.MaxFileSize+1:
		f.Err = TooLarge(f.Size)
		return
	case whole && n == f.Size+1:
		data = data[:n-1] // the last line has no newline
	case whole && n != f.Size:
		f.Err = "is not text, or changed while it was read"
		return
	}
	f.Data, _ = Redact(data)
	if f.Data == nil {
		f.Data = []byte{}
	}
}

// statFrame reads what stat printed: mode, user, group, size, time.
func statFrame(f *engine.File, value string) error {
	w := strings.Fields(value)
	if len(w) != 5 {
		return fmt.Errorf("stat printed %.80q; GNU coreutils are needed", value)
	}
	mode, err := strconv.ParseUint(w[0], 16, 32)
	if err == nil {
		f.Mode = fs.FileMode(mode & 0o777)
		f.UID, err = strconv.Atoi(w[1])
	}
	if err == nil {
		f.GID, err = strconv.Atoi(w[2])
	}
	if err == nil {
		var size uint64
		size, err = strconv.ParseUint(w[3], 10, 63)
		f.Size = int64(size)
	}
	if err == nil {
		f.ModTime, err = parseTime(w[4])
	}
	if err != nil {
		return fmt.Errorf("stat printed %.80q; GNU coreutils are needed", value)
	}
	return nil
}
