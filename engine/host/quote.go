package host

import "strings"

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
