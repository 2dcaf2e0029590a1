package schema_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"certbook/schema"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
)

// document parses a text as the kind of document that its test is about.
type document func(*schema.Source) error

func playbook(src *schema.Source) error  { _, err := schema.ParsePlaybook(src); return err }
func overlay(src *schema.Source) error   { _, err := schema.ParseOverlay(src); return err }
func inventory(src *schema.Source) error { _, err := schema.ParseInventory(src); return err }
func secrets(src *schema.Source) error   { _, err := schema.ParseSecrets(src); return err }

// mistake is where a diagnostic should point and how its message begins.
type mistake struct {
	at      string // line:column
	message string
}

// mistakes parses text and returns what was found, having checked that every
// diagnostic shows its line with a caret below its column.
func mistakes(t *testing.T, parse document, text string) []mistake {
	t.Helper()
	return listed(t, parse(&schema.Source{Name: "doc.yaml", Data: []byte(text)}))
}

// listed returns the mistakes that err lists, checked in the same way.
func listed(t *testing.T, err error) []mistake {
	t.Helper()
	if err == nil {
		return nil
	}
	var all *multierror.Error
	require.ErrorAs(t, err, &all)
	var found []mistake
	for _, e := range all.Errors {
		var d *schema.Diagnostic
		require.ErrorAs(t, e, &d)
		checkExcerpt(t, d)
		message := d.Message
		if d.Hint != "" {
			message += "; " + d.Hint
		}
		found = append(found, mistake{fmt.Sprintf("%d:%d", d.Pos.Line, d.Pos.Column), message})
	}
	return found
}

func checkExcerpt(t *testing.T, d *schema.Diagnostic) {
	t.Helper()
	lines := strings.Split(d.Error(), "\n")
	require.True(t, strings.HasPrefix(lines[0], d.Pos.String()+": "), lines[0])
	source := d.Pos.Source.Line(d.Pos.Line)
	if strings.TrimSpace(source) == "" || len([]rune(source)) > 120 {
		return
	}
	require.Len(t, lines, 3, d.Error())
	prefix := fmt.Sprintf("  %d | ", d.Pos.Line)
	require.True(t, strings.HasPrefix(lines[1], prefix), lines[1])
	require.Len(t, []rune(lines[1]), len(prefix)+len([]rune(source)))
	caret := len([]rune(lines[2])) - 1
	require.True(t, strings.HasSuffix(lines[2], "^"), lines[2])
	require.Equal(t, min(d.Pos.Column-1, len([]rune(source))), caret-len(prefix), "the caret stands below its column:\n%s", d.Error())
}

const head = "version: 1\nname: p\nplays:\n  - name: one\n    hosts: m1\n    steps:\n"

func TestBrokenPlaybooks(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []mistake
	}{
		{"unknown key", "version: 1\nnmae: x\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"2:1", `unknown key "nmae"; did you mean "name"?`}}},
		{"unknown key far from any", "version: 1\nname: p\nzzzzzz: 1\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"3:1", `unknown key "zzzzzz" (known: version, name, description, vars, plays)`}}},
		{"duplicate key", "version: 1\nname: p\nname: q\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"3:1", `duplicate key "name" (first on line 2)`}}},
		{"duplicate key in a variable", "version: 1\nname: p\nvars:\n  a: {x: [{y: 1, y: 2}]}\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"4:18", `duplicate key "y" (first on line 4)`}}},
		{"list as a key in a variable", "version: 1\nname: p\nvars:\n  a: {[x]: 1}\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"4:7", `want text as a key, not a list`}}},
		{"wrong types", "version: one\nname: [p]\ndescription: {}\nvars: []\nplays: 3\n", []mistake{
			{"1:10", `want a whole number, not "one"`}, {"2:7", `want text, not a list`}, {"3:14", `want text, not a mapping`},
			{"4:7", `want a mapping, not a list`}, {"5:8", `want a list, not a number`}}},
		{"fraction as a whole number", "version: 1.9\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"1:10", `want a whole number, not "1.9"`}}},
		{"other version", "version: 2\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"1:10", `version 2 is not known; this certbook reads version 1`}}},
		{"version 0", "version: 0\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			[]mistake{{"1:10", `version 0 is not known; this certbook reads version 1`}}},
		{"missing keys", "description: x\n", []mistake{{"1:1", `missing key "version"`}, {"1:1", `missing key "name"`}, {"1:1", `missing key "plays"`}}},
		{"no plays", "version: 1\nname: p\nplays: []\n", []mistake{{"3:1", `plays is empty; a playbook has at least one play`}}},
		{"missing keys of a step", head + "      - name: x\n", []mistake{{"7:9", `missing key "id"`}, {"7:9", `missing key "action"`}}},
		{"empty step", head + "      -\n", []mistake{{"7:8", `want a mapping, not empty`}}},
		{"duplicate ids", head + "      - {id: a, action: x}\n      - {id: a, action: x}\n      - {id: a, action: x}\n", []mistake{
			{"8:14", `duplicate step id "a" (first at doc.yaml:7:14)`}, {"9:14", `duplicate step id "a" (first at doc.yaml:7:14)`}}},
		{"duplicate id in finally", head + "      - {id: a, action: x}\n    finally:\n      - {id: a, action: x}\n", []mistake{
			{"9:14", `duplicate step id "a" (first at doc.yaml:7:14)`}}},
		{"duplicate plays", "version: 1\nname: p\nplays:\n- {name: a, hosts: b, steps: []}\n- {name: a, hosts: b, steps: []}\n",
			[]mistake{{"5:10", `duplicate play name "a" (first at doc.yaml:4:10)`}}},
		{"bad ids", head + "      - {id: Re-new, action: x}\n      - {id: \"9\", action: x}\n      - {id: ä, action: x}\n", []mistake{
			{"7:14", `step id "Re-new": want lower case letters, digits and _, beginning with a letter; write re_new`},
			{"8:15", `step id "9": want lower case letters, digits and _, beginning with a letter`},
			{"9:14", `step id "ä": want lower case letters, digits and _, beginning with a letter`}}},
		{"bad durations", head + "      - {id: a, action: x, timeout: soon}\n      - {id: b, action: x, timeout: 5}\n      - {id: c, action: x, timeout: [5s]}\n      - {id: d, action: x, timeout: -5s}\n      - {id: e, action: x, timeout: 999999w}\n      - {id: f, action: x, timeout: 5s extra}\n      - {id: g, action: x, timeout: ''}\n", []mistake{
			{"7:37", `not a duration: "soon" (write 90s, 5m, 12h, 30d or 2w)`},
			{"8:37", `not a duration: "5" (write 90s, 5m, 12h, 30d or 2w)`},
			{"9:37", `want a duration, not a list`},
			{"10:37", `not a duration: "-5s" (write 90s, 5m, 12h, 30d or 2w)`},
			{"11:37", `duration "999999w" is longer than 100 years`},
			{"12:37", `not a duration: "5s extra" (write 90s, 5m, 12h, 30d or 2w)`},
			{"13:37", `not a duration: "" (write 90s, 5m, 12h, 30d or 2w)`}}},
		{"serial", "version: 1\nname: p\nplays:\n- {name: a, hosts: b, steps: [], serial: 0}\n- {name: b, hosts: b, steps: [], serial: 101%}\n- {name: c, hosts: b, steps: [], serial: some}\n- {name: d, hosts: b, steps: [], serial: [1]}\n- {name: e, hosts: b, steps: [], serial: -1}\n- {name: f, hosts: b, steps: [], serial: 0%}\n- {name: g, hosts: b, steps: [], serial: }\n- {name: h, hosts: b, steps: [], serial: +1}\n", []mistake{
			{"4:42", `serial: want a number from 1, a percentage or all, not "0"`},
			{"5:42", `serial: want a number from 1, a percentage or all, not "101%"`},
			{"6:42", `serial: want a number from 1, a percentage or all, not "some"`},
			{"7:42", `serial: want a number from 1, a percentage or all, not a list`},
			{"8:42", `serial: want a number from 1, a percentage or all, not "-1"`},
			{"9:42", `serial: want a number from 1, a percentage or all, not "0%"`},
			{"10:42", `serial: want a number from 1, a percentage or all, not empty`},
			{"11:42", `serial: want a number from 1, a percentage or all, not "+1"`}}},
		{"enum", "version: 1\nname: p\nplays:\n- {name: a, hosts: b, steps: [], on_failure: rolback}\n- {name: b, hosts: b, steps: [], on_failure: \"\"}\n- {name: c, hosts: b, steps: [], on_failure: }\n", []mistake{
			{"4:46", `on_failure: want one of rollback, stop, continue, not "rolback"; did you mean "rollback"?`},
			{"5:46", `on_failure: want one of rollback, stop, continue, not ""`},
			{"6:46", `want text, not empty`}}},
		{"retry", head + "      - {id: a, action: x, retry: {attempts: 0}}\n      - {id: b, action: x, retry: {backoff: 0.5}}\n      - {id: c, action: x, retry: {jitter: .nan}}\n      - {id: d, action: x, retry: {attempts: 2.5}}\n      - {id: e, action: x, retry: {attempts: 1001, jitter: 2, delay: x}}\n      - {id: f, action: x, retry: {atempts: 2}}\n", []mistake{
			{"7:46", `attempts: want 1 to 1000, not 0`},
			{"8:45", `backoff: want 1 to 100, not 0.5`},
			{"9:44", `jitter: want 0 to 1, not .nan`},
			{"10:46", `want a whole number, not "2.5"`},
			{"11:46", `attempts: want 1 to 1000, not 1001`},
			{"11:60", `jitter: want 0 to 1, not 2`},
			{"11:70", `not a duration: "x" (write 90s, 5m, 12h, 30d or 2w)`},
			{"12:36", `unknown key "atempts"; did you mean "attempts"?`}}},
		{"hosts", "version: 1\nname: p\nplays:\n- {name: a, hosts: [], steps: []}\n- {name: b, hosts: {}, steps: []}\n- {name: c, hosts: [[]], steps: []}\n- {name: d, hosts: , steps: []}\n", []mistake{
			{"4:20", `the list of hosts is empty`}, {"5:20", `want text, not a mapping`}, {"6:21", `want text, not a list`}, {"7:20", `want text, not empty`}}},
		{"variable names", "version: 1\nname: p\nvars:\n  a-b: 1\n  \"1x\": 1\n  ok_1: 1\n  '': 1\nplays: [{name: a, hosts: b, steps: []}]\n", []mistake{
			{"4:3", `variable name "a-b": want letters, digits and _, not beginning with a digit`},
			{"5:3", `variable name "1x": want letters, digits and _, not beginning with a digit`},
			{"7:3", `variable name "": want letters, digits and _, not beginning with a digit`}}},
		{"columns are characters", "version: 1\nname: p\nplays: [{name: \"äöü€😀\", hosts: b, step: []}]\n", []mistake{
			{"3:9", `missing key "steps"`}, {"3:35", `unknown key "step"; did you mean "steps"?`}}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, mistakes(t, playbook, c.text)) })
	}
}

func TestBytesThatAreNoDocument(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, c := range []struct {
		name, text string
		want       []mistake
	}{
		{"0 bytes", "", []mistake{{"1:1", "the file is empty"}}},
		{"only comments", "# nothing\n\n# here\n", []mistake{{"1:1", "the document is empty"}}},
		{"only a marker", "---\n", []mistake{{"1:1", "the document is empty"}}},
		{"null", "~\n", []mistake{{"1:1", "the document is empty"}}},
		{"list", "\n- version: 1\n", []mistake{{"2:1", `the document is a list; want a mapping that begins with "version: 1"`}}},
		{"text", "hello\n", []mistake{{"1:1", `the document is text; want a mapping that begins with "version: 1"`}}},
		{"byte order mark", "\xef\xbb\xbfversion: 1\n", []mistake{{"1:1", "the file begins with a byte order mark; save it as UTF-8 without one"}}},
		{"CRLF", "version: 1\r\nname: ü\r\n", []mistake{{"1:11", `a carriage return ends this line; save the file with Unix line ends (sed -i 's/\r$//' FILE)`}}},
		{"tab", "version: 1\nplays:\n \t- name: x\n", []mistake{{"3:2", "a tab indents this line; use spaces"}}},
		{"NUL", "version: 1\nname: ü\x00x\n", []mistake{{"2:8", "the file holds a NUL byte; it is not YAML"}}},
		{"not UTF-8", "version: 1\nname: ü\xff\n", []mistake{{"2:8", "the file is not UTF-8 from here on"}}},
		{"UTF-16 little endian", "\xff\xfev\x00", []mistake{{"1:1", "the file is UTF-16; save it as UTF-8"}}},
		{"UTF-16 big endian", "\xfe\xff\x00v", []mistake{{"1:1", "the file is UTF-16; save it as UTF-8"}}},
		{"UTF-16 without mark", "v\x00e\x00", []mistake{{"1:2", "the file holds a NUL byte; it is not YAML"}}},
		{"line separator", "version: 1\n# ü \u2028name: x\n", []mistake{{"2:5", "the line separator U+2028 is not supported; delete it or use a line end"}}},
		{"next line", "version: 1\u0085name: x\n", []mistake{{"1:11", "the line separator U+0085 is not supported; delete it or use a line end"}}},
		{"control character", "version: 1\nname: a\x01b\n", []mistake{{"2:8", "not YAML: control characters are not allowed"}}},
		{"two documents", "version: 1\n---\nversion: 1\n", []mistake{{"2:1", "a second document begins here; write one document a file"}}},
		{"anchors and aliases", "version: 1\nname: &n p\nvars: &v\n  a: *n\n  b: {<<: *v}\n  c: &c [*n]\n", []mistake{
			{"2:7", "anchors (&n) are not supported; use a variable"}, {"3:7", "anchors (&v) are not supported; use a variable"},
			{"4:6", "aliases (*n) are not supported; use a variable"}, {"5:7", "merge keys (<<) are not supported; use a variable or an overlay"},
			{"5:11", "aliases (*v) are not supported; use a variable"}, {"6:6", "anchors (&c) are not supported; use a variable"}, {"6:10", "aliases (*n) are not supported; use a variable"}}},
		{"alias without anchor", "version: 1\nname: *nobody\n", []mistake{{"2:13", "not YAML: unknown anchor 'nobody' referenced"}}},
		{"tag", "version: 1\nname: !secret x\nvars: {a: !!binary aGk=, b: !!str {}}\n", []mistake{
			{"2:7", "the tag !secret is not supported"}, {"3:11", "the tag !!binary is not supported"}, {"3:29", "the tag !!str is not supported"}}},
		{"deep", "version: 1\nname: " + deep + "\n", []mistake{{"2:71", "values are nested more than 64 deep"}}},
		{"unclosed list", "version: 1\nname: p\nplays: [a, b\nvars: {}\n", []mistake{{"3:12", "not YAML: did not find expected ',' or ']'"}}},
		{"unclosed quote", "version: 1\nname: \"p\nplays: []\n", []mistake{{"2:7", "not YAML: found unexpected end of stream"}}},
		{"bad indentation", "version: 1\nname: p\n  more: x\n", []mistake{{"3:7", "not YAML: mapping values are not allowed in this context"}}},
		{"item among keys", "version: 1\nname: p\n- x\n", []mistake{{"3:1", "not YAML: did not find expected key"}}},
		{"colon in a value", "version: 1\nname: a: b\n", []mistake{{"2:8", "not YAML: mapping values are not allowed in this context"}}},
		{"bad escape", "version: 1\nname: \"a\\qb\"\n", []mistake{{"2:9", "not YAML: found unknown escape character"}}},
		{"percent", "version: 1\nname: %x\n", []mistake{{"2:7", "not YAML: found character that cannot start any token"}}},
		{"before wide characters", "version: 1\nname: a: b\n# " + strings.Repeat("€", 500) + "\n", []mistake{{"2:8", "not YAML: mapping values are not allowed in this context"}}},
		{"template", "version: 1\nname: {{ x }}\n", []mistake{{"2:8", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, parse := range []document{playbook, overlay, inventory} {
				got := mistakes(t, parse, c.text)
				if len(c.want) == 1 && c.want[0].message == "" && len(got) > 0 { // only that it is refused
					continue
				}
				require.Equal(t, c.want, got)
			}
		})
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nname: p\nvars:\n  a0: &a0 [x]\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	got := mistakes(t, playbook, b.String())
	require.Len(t, got, 40+39*10)
	require.Equal(t, mistake{"4:7", "anchors (&a0) are not supported; use a variable"}, got[0])
}

func TestTabsWhereYAMLAllowsThem(t *testing.T) {
	require.Empty(t, mistakes(t, playbook, "version: 1\nname:\tp\t# why\nvars:\n  script: |\n    if true; then\n    \techo\n    fi\nplays: [{name: a, hosts: b,\n\tsteps: []}]\n"))
}

func TestTooManyMistakesAreCounted(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	err := playbook(&schema.Source{Name: "doc.yaml", Data: []byte(b.String())})
	var all *multierror.Error
	require.ErrorAs(t, err, &all)
	require.Len(t, all.Errors, 501)
	require.EqualError(t, all.Errors[500], "and 1500 mistakes more")
}

func TestLongLinesAndLongNamesStayReadable(t *testing.T) {
	long := strings.Repeat("ü", 100000)
	err := playbook(&schema.Source{Name: "doc.yaml", Data: []byte("version: 1\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n" + long + ": 1\n")})
	require.Error(t, err)
	require.Less(t, len(err.Error()), 3000)
	line := "version: 1\nname: " + strings.Repeat("a", 300) + " # \u009b[31m\nplays: {x: y, " + strings.Repeat("b", 200) + ": [], zz: [}\n"
	err = playbook(&schema.Source{Name: "doc.yaml", Data: []byte(line)})
	require.Error(t, err)
	for _, l := range strings.Split(err.Error(), "\n") {
		require.Less(t, len(l), 200)
	}
}

func TestErrorsOfSeveralDocumentsStayTogether(t *testing.T) {
	a, b := &schema.Source{Name: "a"}, &schema.Source{Name: "b"}
	var d schema.Diagnostics
	d.Add(schema.Pos{Source: b, Line: 9, Column: 1}, "b9")
	d.Add(schema.Pos{Source: a, Line: 7, Column: 1}, "a7")
	d.Add(schema.Pos{Source: b, Line: 3, Column: 2}, "b3")
	d.Add(schema.Pos{}, "nowhere")
	d.Add(schema.Pos{Source: a, Line: 2, Column: 1}, "a2")
	d.Add(schema.Pos{Source: b, Line: 3, Column: 1}, "b3 first")
	d.Add(schema.Pos{Source: a, Line: 2, Column: 1}, "a2")
	require.EqualError(t, d.Err(), "b:3:1: b3 first\nb:3:2: b3\nb:9:1: b9\na:2:1: a2\na:7:1: a7\nnowhere")
	require.Equal(t, 7, d.Len())
	var none schema.Diagnostics
	require.NoError(t, none.Err())
	require.False(t, errors.As(none.Err(), new(*multierror.Error)))
}
