package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"certbook/schema"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// TestAt writes one text in every way that YAML has. The mark stands before the
// word that is looked for; it is taken out before parsing.
func TestAt(t *testing.T) {
	const mark = "¦"
	for name, text := range map[string]string{
		"plain":                     "a: one two ¦target three\n",
		"plain, folded":             "a: one\n  two   \n  ü ¦target\n",
		"plain, blank lines":        "a: one\n\n\n  two\n  ¦target\n",
		"in a list":                 "a: [one, 'ü ¦target']\n",
		"after characters":          "a: ü€😀 ¦target\n",
		"single quotes":             "a: 'it''s ''¦target'''\n",
		"single quotes, folded":     "a: 'one\n\n  two ''\n  x ¦target'\n",
		"double quotes":             "a: \"one ¦target\"\n",
		"escapes":                   "a: \"\\\"\\x41\\u00e9\\U0001F600\\n\\t\\N\\L\\_ ¦target\"\n",
		"double quotes, folded":     "a: \"one\n    two\n\n    ¦target\"\n",
		"double quotes, line join":  "a: \"one\\\n    two ¦target\"\n",
		"literal":                   "a: |\n  one\n  ü ¦target\n",
		"literal, first line":       "a: |\n    ¦target\n",
		"literal, blank first line": "a: |\n\n\n  one\n   ¦target\n",
		"literal, comment":          "a: |- # why | not\n  one\n\n  ¦target\n",
		"literal, indent given":     "a: |2\n    one\n  two ¦target\n",
		"literal, deeper lines":     "a:\n  - |\n    if x\n      ¦target\n",
		"folded":                    "a: >-\n  one\n  two\n\n  ¦target\n",
		"folded, deeper lines":      "a: >\n  one\n    two ¦target\n  three\n",
		"tagged":                    "a: !!str \"one ¦target\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			at := strings.Index(text, mark)
			before := text[:at]
			text = before + text[at+len(mark):]
			line := 1 + strings.Count(before, "\n")
			column := 1 + len([]rune(before[strings.LastIndex(before, "\n")+1:]))
			v := scalar(t, text)
			n := strings.Index(v.Node.Value, "target")
			require.GreaterOrEqual(t, n, 0, v.Node.Value)
			require.Equal(t, fmt.Sprintf("doc.yaml:%d:%d", line, column), v.At(n).String())
			require.Equal(t, fmt.Sprintf("doc.yaml:%d:%d", line, column+3), v.At(n+3).String())
		})
	}
}

// scalar returns the only scalar under "a", or the last of a list there.
func scalar(t *testing.T, text string) schema.Value {
	t.Helper()
	src := &schema.Source{Name: "doc.yaml", Data: []byte(text)}
	var d schema.Diagnostics
	top, ok := schema.Parse(src, &d)
	require.True(t, ok, "%v", d.Err())
	n := top.Node.Content[1]
	for n.Kind != yaml.ScalarNode {
		n = n.Content[len(n.Content)-1]
	}
	return schema.Value{Node: n, Source: src}
}

func TestAtOfATextFromElsewhere(t *testing.T) {
	src := &schema.Source{Name: "doc.yaml", Data: []byte("a: run-command\n")}
	v := schema.Value{Node: &yaml.Node{Kind: yaml.ScalarNode, Value: "${run.id}/x", Line: 1, Column: 4}, Source: src}
	require.Equal(t, "doc.yaml:1:4", v.At(2).String())
	v.Node.Line = 7
	require.Equal(t, "doc.yaml:7:4", v.At(2).String())
	require.Equal(t, "-", schema.Value{}.At(3).String())
}

func TestQuotedNamesAreUnderlinedInsideTheQuotes(t *testing.T) {
	require.Equal(t, []mistake{
		{"7:15", `step id "A": want lower case letters, digits and _, beginning with a letter; write a`},
		{"8:15", `step id "B": want lower case letters, digits and _, beginning with a letter; write b`},
	}, mistakes(t, playbook, head+"      - {id: 'A', action: x}\n      - {id: \"B\", action: x}\n"))
}

func TestSourceLine(t *testing.T) {
	src := &schema.Source{Data: []byte("one\ntwo\r\n\nfour")}
	for n, want := range []string{"", "one", "two", "", "four", "", ""} {
		require.Equal(t, want, src.Line(n), "line %d", n)
	}
	require.Equal(t, "", src.Line(-1))
}
