package engine

import (
	"bytes"
	"path"
	"strconv"
	"strings"
	"time"
)

// ReplacedList is the name of the file in a directory of FileOptions.Save that
// says what was replaced there: a line for each file, written durably before
// the first file of the same call is renamed.
const ReplacedList = ".certbook-files"

// Replaced is a line of such a list: a time that all files of one call share,
// the SHA-256 of the old and of the new content, and the path. The fields are
// separated by tabs.
type Replaced struct {
	Time time.Time
	Old  string // hexadecimal; "-" when there was no file, "link" for a symbolic link
	New  string // likewise; "-" when the file was removed
	Path string // of the file; its old version has the same path below the directory
}

// ParseReplaced reads a list. A line that was cut off is not counted.
func ParseReplaced(data []byte) []Replaced {
	var list []Replaced
	for line := range bytes.Lines(data) {
		text, whole := strings.CutSuffix(string(line), "\n")
		fields := strings.SplitN(text, "\t", 4)
		if !whole || len(fields) != 4 || !path.IsAbs(fields[3]) || path.Clean(fields[3]) != fields[3] {
			continue
		}
		ns, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			continue
		}
		list = append(list, Replaced{Time: time.Unix(0, ns).UTC(), Old: fields[1], New: fields[2], Path: fields[3]})
	}
	return list
}
