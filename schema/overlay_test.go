package schema_test

import (
	"fmt"
	"testing"

	"certbook/schema"

	"github.com/stretchr/testify/require"
)

func parseOverlay(t *testing.T, text string) *schema.Overlay {
	t.Helper()
	o, err := schema.ParseOverlay(&schema.Source{Name: "site.yaml", Data: []byte("version: 1\nname: site\n" + text)})
	require.NoError(t, err)
	return o
}

// with applies overlays one after the other.
func with(t *testing.T, p *schema.Playbook, texts ...string) *schema.Playbook {
	t.Helper()
	for _, text := range texts {
		var err error
		p, err = p.With(parseOverlay(t, text))
		require.NoError(t, err)
	}
	return p
}

func step(t *testing.T, p *schema.Playbook, id string) schema.Step {
	t.Helper()
	for _, s := range p.Steps() {
		if s.ID.Value == id {
			return s
		}
	}
	require.Fail(t, "no step "+id)
	return schema.Step{}
}

func ids(steps []schema.Step) []string {
	var list []string
	for _, s := range steps {
		list = append(list, s.ID.Value)
	}
	return list
}

func TestOverlayChangesSteps(t *testing.T) {
	p := with(t, parsePlaybook(t, whole), `
vars: {renew_before: 60d, extra: 1}
plays:
  - {name: renew, hosts: m1, serial: 2}
  - {name: survey, on_failure: continue}
steps:
  - {id: backup, with: {src: /etc/k3s, depth: null, keep: 3}, when: "true", retry: {attempts: 9}, timeout: 1m}
  - {id: again, off: handled by the site's own tool}
  - {id: expiry, with: {before: 1d}}
  - {id: bye, with: {that: "true"}}
`)
	require.Equal(t, "60d", p.Vars["renew_before"].Node.Value)
	require.Equal(t, "site.yaml:4:22", p.Vars["renew_before"].Pos().String())
	require.Contains(t, p.Vars, "extra")
	require.Contains(t, p.Vars, "list")
	require.Equal(t, "m1", p.Plays[1].Hosts.String())
	require.Equal(t, schema.Serial{Count: 2}, p.Plays[1].Serial)
	require.Equal(t, "stop", p.Plays[1].OnFailure)
	require.Equal(t, "continue", p.Plays[0].OnFailure)
	require.Equal(t, "masters", p.Plays[0].Hosts.String())

	backup := step(t, p, "backup")
	require.Equal(t, "/etc/k3s", backup.With["src"].Node.Value)
	require.Equal(t, "site.yaml:9:30", backup.With["src"].Pos().String())
	require.NotContains(t, backup.With, "depth", "null takes an argument back to its default")
	require.Contains(t, backup.With, "keep")
	require.Equal(t, "true", backup.When.Value)
	require.Equal(t, 9, backup.Retry.Attempts)
	require.Equal(t, "5s", backup.Retry.Delay.String(), "a retry is replaced as a whole")
	require.Equal(t, "1m", backup.Timeout.String())
	require.Equal(t, "handled by the site's own tool", step(t, p, "again").Off)
	require.Equal(t, "1d", step(t, p, "expiry").With["before"].Node.Value)
	require.Contains(t, step(t, p, "bye").With, "that", "a step without arguments and in finally")
}

func TestOverlayInserts(t *testing.T) {
	p := with(t, parsePlaybook(t, whole), `
insert:
  - {before: backup, steps: [{id: a, action: x}, {id: b, action: x}]}
  - {after: again, steps: [{id: z, action: x}]}
  - {after: b, steps: [{id: c, action: x, with: {one: 1, two: 2}}]}
  - {before: bye, steps: [{id: last, action: x}]}
steps:
  - {id: c, with: {one: 11}, off: "no"}
`, `
insert: [{before: a, steps: [{id: zero, action: x}]}]
steps: [{id: z, timeout: 1s}]
`)
	require.Equal(t, []string{"zero", "a", "b", "c", "backup", "again", "z"}, ids(p.Plays[1].Steps))
	require.Equal(t, []string{"last", "bye"}, ids(p.Plays[1].Finally))
	c := step(t, p, "c")
	require.Equal(t, "11", c.With["one"].Node.Value, "an inserted step can be patched")
	require.Equal(t, "2", c.With["two"].Node.Value)
	require.Equal(t, "no", c.Off)
	require.Equal(t, "1s", step(t, p, "z").Timeout.String())
}

func TestOverlayLeavesItsPlaybookAndItselfAlone(t *testing.T) {
	p := parsePlaybook(t, whole)
	before := fmt.Sprintf("%#v %v %v", p.Steps(), p.Plays, p.Vars)
	o := parseOverlay(t, `
vars: {renew_before: 60d, extra: 1}
plays: [{name: renew, hosts: m1, serial: 2, on_failure: rollback}]
steps:
  - {id: backup, with: {src: /etc/k3s, depth: null}, when: "true", retry: {attempts: 9}, timeout: 1m, off: x}
  - {id: mine, with: {a: 2}, off: "no"}
  - {id: bye, off: x}
insert: [{after: backup, steps: [{id: mine, action: x, with: {a: 1}}]}]
`)
	inserted := fmt.Sprintf("%#v", o.Insert)
	one, err := p.With(o)
	require.NoError(t, err)
	two, err := p.With(o)
	require.NoError(t, err)
	require.Equal(t, one, two)
	require.Equal(t, before, fmt.Sprintf("%#v %v %v", p.Steps(), p.Plays, p.Vars))
	require.Equal(t, inserted, fmt.Sprintf("%#v", o.Insert))
	require.Len(t, p.Plays[1].Steps, 2)
}

func TestOverlayMistakes(t *testing.T) {
	p := parsePlaybook(t, whole)
	o := parseOverlay(t, `vars: {x: 1}
plays: [{name: renwe}, {name: surve}]
steps:
  - {id: bakcup, off: x}
  - {id: "agian", off: x}
  - {id: nothing_like_it, off: x}
insert:
  - {before: expire, steps: [{id: n, action: x}]}
  - {after: backup, steps: [{id: again, action: x}]}
`)
	_, err := p.With(o)
	require.Equal(t, []mistake{
		{"4:16", `no play "renwe" in playbook "renew"; did you mean "renew"?`},
		{"4:31", `no play "surve" in playbook "renew"; did you mean "survey"?`},
		{"6:10", `no step "bakcup" in playbook "renew"; did you mean "backup"?`},
		{"7:11", `no step "agian" in playbook "renew"; did you mean "again"?`},
		{"8:10", `no step "nothing_like_it" in playbook "renew"`},
		{"10:14", `no step "expire" in playbook "renew"; did you mean "expiry"?`},
		{"11:34", `step id "again" is taken (at book.yaml:28:14)`},
	}, listed(t, err))
}

func TestBrokenOverlays(t *testing.T) {
	const head = "version: 1\nname: o\n"
	for _, c := range []struct {
		name, text string
		want       []mistake
	}{
		{"changed twice", head + "steps:\n- {id: a, off: x}\n- {id: a, timeout: 5s}\n", []mistake{{"5:8", `step "a" is changed twice (first at doc.yaml:4:8)`}}},
		{"off without a reason", head + "steps:\n- {id: a, off: true}\n- {id: b, off: ' '}\n- {id: c, off: false}\n- {id: d, off: }\n- {id: e, off: []}\n", []mistake{
			{"4:16", `off: give the reason why step "a" is not wanted`}, {"5:17", `off: give the reason why step "b" is not wanted`},
			{"6:16", `off: give the reason why step "c" is not wanted`},
			{"7:16", `want text, not empty`}, {"7:16", `off: give the reason why step "d" is not wanted`},
			{"8:16", `want text, not a list`}, {"8:16", `off: give the reason why step "e" is not wanted`}}},
		{"insert nowhere or twice", head + "insert:\n- {steps: []}\n- {before: a, after: b, steps: []}\n- {before: a}\n", []mistake{
			{"4:3", `insert: give either before or after`}, {"5:3", `insert: give either before or after`}, {"6:3", `missing key "steps"`}}},
		{"the same id twice", head + "insert:\n- {before: a, steps: [{id: x, action: y}, {id: x, action: y}]}\n- {before: b, steps: [{id: x, action: y}, {id: X, action: y}]}\n", []mistake{
			{"4:48", `duplicate step id "x" (first at doc.yaml:4:28)`}, {"5:28", `duplicate step id "x" (first at doc.yaml:4:28)`},
			{"5:48", `step id "X": want lower case letters, digits and _, beginning with a letter; write x`}}},
		{"values", head + "plays:\n- {name: a, serial: x, on_failure: nothing}\nsteps:\n- {id: a, retry: {attempts: 0}, timeout: x, with: [], actoin: y}\n", []mistake{
			{"4:21", `serial: want a number from 1, a percentage or all, not "x"`},
			{"4:36", `on_failure: want one of rollback, stop, continue, not "nothing"`},
			{"6:29", `attempts: want 1 to 1000, not 0`}, {"6:42", `not a duration: "x" (write 90s, 5m, 12h, 30d or 2w)`},
			{"6:51", `want a mapping, not a list`}, {"6:55", `unknown key "actoin" (known: id, with, when, retry, timeout, off)`}}},
		{"no ids", head + "steps: [{off: x}, {off: y}]\n", []mistake{{"3:9", `missing key "id"`}, {"3:19", `missing key "id"`}}},
		{"version and variables", "version: 3\nname: o\nvars: {a-b: 1}\n", []mistake{
			{"1:10", `version 3 is not known; this certbook reads version 1`},
			{"3:8", `variable name "a-b": want letters, digits and _, not beginning with a digit`}}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, mistakes(t, overlay, c.text)) })
	}
}
