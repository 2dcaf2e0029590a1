package schema_test

import (
	"errors"
	"strings"
	"testing"

	"certbook/schema"

	"github.com/hashicorp/go-multierror"
)

// checkFuzz holds what is true of every parse: no panic; a value or mistakes, and
// both only when all mistakes are aside; every mistake lies in the document and
// can be shown.
func checkFuzz(t *testing.T, src *schema.Source, value bool, err error) {
	t.Helper()
	if err == nil {
		if !value {
			t.Fatal("no value and no mistake")
		}
		return
	}
	var all *multierror.Error
	if !errors.As(err, &all) {
		t.Fatalf("%T is not a list of mistakes: %v", err, err)
	}
	lines := 1 + strings.Count(string(src.Data), "\n")
	for _, e := range all.Errors {
		var d *schema.Diagnostic
		if !errors.As(e, &d) {
			continue // "and 3 mistakes more"
		}
		if value && !strings.HasPrefix(d.Message, "unknown key ") && !strings.HasPrefix(d.Message, "duplicate key ") {
			t.Fatalf("a value with the mistake %s", d.Message)
		}
		width := len([]rune(src.Line(d.Pos.Line)))
		if d.Pos.Line < 1 || d.Pos.Line > lines || d.Pos.Column < 1 || d.Pos.Column > width+1 {
			t.Fatalf("%s lies outside of the document (%d lines, %d columns): %s", d.Pos, lines, width, d.Message)
		}
		if text := d.Error(); strings.ContainsAny(text, "\x00\x1b\r") {
			t.Fatalf("a terminal would act on %q", text)
		}
	}
}

func FuzzParsePlaybook(f *testing.F) {
	for _, text := range []string{"", whole, head, "version: 1\nname: &a x\nvars: {<<: *a}\n", "a: |2\n\n   ${x}\n", "\"\\x41\": [", "? [a]\n: b\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := &schema.Source{Name: "fuzz.yaml", Data: data}
		p, err := schema.ParsePlaybook(src)
		checkFuzz(t, src, p != nil, err)
		if p == nil {
			return
		}
		for _, s := range p.Steps() {
			places(t, s.When)
			for _, v := range s.With {
				for n := range len(v.Node.Value) {
					inside(t, src, v.At(n))
				}
			}
		}
	})
}

func places(t *testing.T, text *schema.Text) {
	t.Helper()
	if text == nil {
		return
	}
	for n := range len(text.Value) {
		inside(t, text.Pos.Source, text.At(n))
	}
}

func inside(t *testing.T, src *schema.Source, p schema.Pos) {
	t.Helper()
	if width := len([]rune(src.Line(p.Line))); p.Column < 1 || p.Column > width+1 {
		t.Fatalf("%s lies outside of its line of %d columns", p, width)
	}
}

func FuzzParseOverlay(f *testing.F) {
	base, err := schema.ParsePlaybook(&schema.Source{Name: "book.yaml", Data: []byte(whole)})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"", "version: 1\nname: o\nsteps: [{id: backup, off: x}]\n",
		"version: 1\nname: o\ninsert: [{after: backup, steps: [{id: n, action: x}]}]\nplays: [{name: renew, serial: 5%}]\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := &schema.Source{Name: "fuzz.yaml", Data: data}
		o, err := schema.ParseOverlay(src)
		checkFuzz(t, src, o != nil, err)
		if o == nil {
			return
		}
		p, err := base.With(o)
		checkFuzz(t, src, p != nil, err)
	})
}

func FuzzParseInventory(f *testing.F) {
	for _, text := range []string{"", fleet, diamonds(5, "groups: [r0]"), "version: 1\nhosts: {m1: }\ngroups: {a: {groups: [a]}}\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := &schema.Source{Name: "fuzz.yaml", Data: data}
		inv, err := schema.ParseInventory(src)
		checkFuzz(t, src, inv != nil, err)
		if inv == nil {
			return
		}
		for name := range inv.Hosts {
			inv.VarsOf(name)
			inv.SSHOf(name)
		}
		for name := range inv.Groups {
			if _, ok := inv.Members(name); !ok {
				t.Fatalf("group %q has no members", name)
			}
		}
	})
}
