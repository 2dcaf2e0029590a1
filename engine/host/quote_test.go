package host

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "''", `"`, "$(id)", "`id`", "a\nb", "\\", "\\'", "*", "!", "\xff\xfe", "\t", "-n", "a\rb"} {
		f.Add(s, "x")
		f.Add("x", s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			return // no argument can hold one
		}
		line := quote([]string{"printf", `%s\0%s\0`, a, b})
		out, err := exec.Command("sh", "-c", line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if want := a + "\x00" + b + "\x00"; string(out) != want {
			t.Fatalf("%q arrived as %q", want, out)
		}
	})
}

func TestQuote(t *testing.T) {
	require.Equal(t, `'a b' '' 'it'"'"'s'`, quote([]string{"a b", "", "it's"}))
}
