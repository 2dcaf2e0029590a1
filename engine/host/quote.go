package host

import (
	"fmt"
	"strings"
)

// maxLine is the length in bytes of the longest command line: Linux takes no
// longer argument, and sshd gives the line to the login shell as one.
const maxLine = 120 << 10

// commandLine returns argv as a login shell is given it by sshd.
func commandLine(argv []string) (string, error) {
	line := quote(argv)
	if len(line) > maxLine {
		return "", fmt.Errorf("the command line has %d bytes; a host takes %d", len(line), maxLine)
	}
	return line, nil
}

// quote joins argv to one command line for a POSIX shell. Every word is put
// in single quotes, within which no character but the quote is special.
func quote(argv []string) string {
	var b strings.Builder
	for i, a := range argv {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(a, `'`, `'"'"'`))
		b.WriteByte('\'')
	}
	return b.String()
}
