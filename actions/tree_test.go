package actions

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzTree makes a file, a link and a directory with the names that it is given
// and reads the tree with the real tools: every name comes back as it is.
func FuzzTree(f *testing.F) {
	for _, s := range []string{"a", "a b", "a\nb", "\n", "'", `"`, "$(id)", "`id`", "\\", "\\n", "-n", "*", "E", "H", "Ef 644 0:0 ", "\x1b[2J", "ü", "\xff", " ", " *x", "x\n./y"} {
		f.Add(s, "b", "target")
		f.Add("x", s, s)
	}
	f.Fuzz(func(t *testing.T, file, dir, target string) {
		for _, name := range []string{file, dir, target} {
			if name == "" || len(name) > 200 || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				return // no file has such a name
			}
		}
		if file == dir {
			return
		}
		root := t.TempDir()
		require.NoError(t, os.Mkdir(root+"/"+dir, 0o700))
		require.NoError(t, os.WriteFile(root+"/"+dir+"/"+file, []byte("x"), 0o600))
		require.NoError(t, os.Symlink(target, root+"/"+file))
		out, err := exec.Command("sh", "-c", treeScript, "sh", root).Output()
		require.NoError(t, err)
		nodes, err := parseTree(string(out))
		require.NoError(t, err)
		require.Len(t, nodes, 3)
		require.Equal(t, "d", nodes[dir].kind)
		require.Equal(t, target, nodes[file].hash)
		require.Equal(t, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", nodes[dir+"/"+file].hash)
	})
}

// FuzzParseTree reads anything as the description of a tree.
func FuzzParseTree(f *testing.F) {
	f.Add("Ef 600 0:0 \x00a\x00Ed 700 0:0 \x00b\x00El 777 0:0 x\x00b/l\x00H2d71 *./a\x00")
	f.Add("Ef 600 0:0 \x00")
	f.Add("H \x00")
	f.Add("E\x00a\x00E\x00")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := parseTree(text)
		if err != nil {
			if nodes != nil || len(err.Error()) > 1200 {
				t.Fatalf("%d entries and %v", len(nodes), err)
			}
			return
		}
		if len(nodes) > strings.Count(text, "E") || len(difference(nodes, nodes)) > 0 {
			t.Fatalf("%d entries of %q", len(nodes), text)
		}
	})
}
