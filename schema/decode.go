package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Decoder fills Go values from YAML nodes and records every mistake instead of
// stopping at the first.
type Decoder struct {
	Diagnostics

	// Deferred, when set, tells that a node stands for a value known only at
	// run time and which type it will have. Such a node is checked against the
	// target's type and leaves the target unset.
	Deferred func(*yaml.Node) (reflect.Type, bool)
}

// unmarshaler is a type that reads itself from a node.
type unmarshaler interface {
	unmarshal(d *Decoder, v Value)
}

// Text is a string with its place.
type Text struct {
	Value string
	Pos   Pos

	written Value
}

// String returns the text.
func (t Text) String() string { return t.Value }

// At returns where byte n of the text is written.
func (t Text) At(n int) Pos {
	if t.written.Node == nil {
		return t.Pos
	}
	return t.written.At(n)
}

func (t *Text) unmarshal(d *Decoder, v Value) {
	t.Pos, t.written = v.TextPos(), v
	if v.Node.Kind != yaml.ScalarNode || v.IsNull() {
		d.Add(v.Pos(), "want text, not %s", kindName(v.Node))
		return
	}
	t.Value = v.Node.Value
}

func (o *Duration) unmarshal(d *Decoder, v Value) {
	if v.Node.Kind != yaml.ScalarNode || v.IsNull() {
		d.Add(v.Pos(), "want a duration, not %s", kindName(v.Node))
		return
	}
	parsed, err := ParseDuration(v.Node.Value)
	if err != nil {
		d.Add(v.Pos(), "%v", err)
		return
	}
	*o = parsed
}

func (o *Value) unmarshal(d *Decoder, v Value) {
	*o = v
	d.keys(v)
}

// keys finds duplicate and odd keys in a value that is decoded later.
func (d *Decoder) keys(v Value) {
	if v.Node.Kind == yaml.MappingNode {
		entries, _ := d.entries(v)
		for _, e := range entries {
			d.keys(e.value)
		}
		return
	}
	for _, c := range v.Node.Content {
		d.keys(Value{Node: c, Source: v.Source})
	}
}

var unmarshalerType = reflect.TypeFor[unmarshaler]()

// Decode fills target, a pointer, from v.
func (d *Decoder) Decode(v Value, target any) {
	d.value(v, reflect.ValueOf(target).Elem())
}

// Arguments fills the struct that target points to from arguments by name,
// each of which may come from another document. at is the place to blame for
// what is missing. A message begins with the argument's name.
func (d *Decoder) Arguments(args map[string]Value, at Pos, target any) {
	t := reflect.ValueOf(target).Elem()
	fields := Fields(t.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		v, given := args[f.Name]
		if !given {
			if f.Required {
				d.Add(at, "missing argument %q: %s", f.Name, f.Doc)
			}
			continue
		}
		one := Decoder{Deferred: d.Deferred}
		one.field(v, f, t.FieldByIndex(f.index))
		for _, m := range one.list {
			if !strings.HasPrefix(m.Message, f.Name+":") {
				m.Message = f.Name + ": " + m.Message
			}
		}
		d.Append(&one.Diagnostics)
	}
	for _, name := range sorted(args) {
		if index(names, name) < 0 {
			d.Add(args[name].Pos(), "unknown argument %q%s", name, suggestOrList(name, names))
		}
	}
}

func (d *Decoder) value(v Value, t reflect.Value) {
	if d.Deferred != nil {
		if actual, ok := d.Deferred(v.Node); ok {
			d.deferred(v, actual, t.Type())
			return
		}
	}
	if t.CanAddr() && t.Addr().Type().Implements(unmarshalerType) {
		t.Addr().Interface().(unmarshaler).unmarshal(d, v)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		p := reflect.New(t.Type().Elem())
		d.value(v, p.Elem())
		t.Set(p)
	case reflect.Struct:
		d.structure(v, t)
	case reflect.Map:
		d.mapping(v, t)
	case reflect.Slice:
		d.slice(v, t)
	default:
		d.scalar(v, t)
	}
}

func (d *Decoder) scalar(v Value, t reflect.Value) {
	n := v.Node
	want := typeName(t.Type())
	if n.Kind != yaml.ScalarNode || v.IsNull() {
		d.Add(v.Pos(), "want %s, not %s", want, kindName(n))
		return
	}
	if t.Kind() == reflect.String {
		t.SetString(n.Value)
		return
	}
	before := t.Interface()
	if err := n.Decode(t.Addr().Interface()); err != nil || t.Kind() == reflect.Bool && n.Tag != "!!bool" || isWhole(t) && !whole(n) {
		t.Set(reflect.ValueOf(before))
		d.Add(v.Pos(), "want %s, not %q", want, v.Source.shown(n.Value))
	}
}

func (d *Decoder) slice(v Value, t reflect.Value) {
	if v.Node.Kind != yaml.SequenceNode {
		d.Add(v.Pos(), "want a list, not %s", kindName(v.Node))
		return
	}
	out := reflect.MakeSlice(t.Type(), len(v.Node.Content), len(v.Node.Content))
	for i, c := range v.Node.Content {
		d.value(Value{Node: c, Source: v.Source}, out.Index(i))
	}
	t.Set(out)
}

func (d *Decoder) mapping(v Value, t reflect.Value) {
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	out := reflect.MakeMapWithSize(t.Type(), len(entries))
	for _, e := range entries {
		item := reflect.New(t.Type().Elem()).Elem()
		d.value(e.value, item)
		out.SetMapIndex(reflect.ValueOf(e.key.Node.Value).Convert(t.Type().Key()), item)
	}
	t.Set(out)
}

func (d *Decoder) structure(v Value, t reflect.Value) {
	fields := Fields(t.Type())
	if v.IsNull() && !anyRequired(fields) { // "m1:" with nothing behind it
		v.Node = &yaml.Node{Kind: yaml.MappingNode, Line: v.Node.Line, Column: v.Node.Column}
	}
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	given := map[string]bool{}
	for _, e := range entries {
		name := e.key.Node.Value
		given[name] = true
		i := index(names, name)
		if i < 0 {
			hint := nested(name, fields)
			if hint == "" {
				hint = suggestOrList(name, names)
			}
			d.Add(e.key.Pos(), "unknown key %q%s", v.Source.shown(name), hint).aside = true
			continue
		}
		d.field(e.value, fields[i], t.FieldByIndex(fields[i].index))
	}
	for _, f := range fields {
		if given[f.Name] {
			continue
		}
		if f.Required {
			d.Add(v.Pos(), "missing key %q", f.Name)
		}
		if f.Default != "" {
			d.value(Value{Node: f.DefaultNode(v.Node), Source: v.Source}, t.FieldByIndex(f.index))
		}
	}
}

// nested returns a hint when name is a key one level down, as port is of ssh.
func nested(name string, fields []Field) string {
	for _, f := range fields {
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && slices.ContainsFunc(Fields(inner), func(g Field) bool { return g.Name == name }) {
			return fmt.Sprintf("; did you mean %s: {%s: ...}?", f.Name, name)
		}
	}
	return ""
}

func anyRequired(fields []Field) bool {
	for _, f := range fields {
		if f.Required {
			return true
		}
	}
	return false
}

type entry struct{ key, value Value }

// entries returns the pairs of a mapping, refusing duplicate and odd keys.
func (d *Decoder) entries(v Value) ([]entry, bool) {
	if v.Node.Kind != yaml.MappingNode {
		d.Add(v.Pos(), "want a mapping, not %s", kindName(v.Node))
		return nil, false
	}
	first := map[string]int{}
	var list []entry
	for i := 0; i+1 < len(v.Node.Content); i += 2 {
		key := Value{Node: v.Node.Content[i], Source: v.Source}
		if key.Node.Kind != yaml.ScalarNode {
			d.Add(key.Pos(), "want text as a key, not %s", kindName(key.Node))
			continue
		}
		if line, dup := first[key.Node.Value]; dup {
			d.Add(key.Pos(), "duplicate key %q (first on line %d)", v.Source.shown(key.Node.Value), line).aside = true
			continue
		}
		first[key.Node.Value] = key.Node.Line
		list = append(list, entry{key, Value{Node: v.Node.Content[i+1], Source: v.Source}})
	}
	return list, true
}

// deferred checks the type that an expression will have against a target.
func (d *Decoder) deferred(v Value, actual, target reflect.Type) {
	if !assignable(actual, target) {
		d.Add(v.Pos(), "want %s, but the expression gives %s", typeName(target), typeName(actual))
	}
}

func index(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

func suggestOrList(name string, names []string) string {
	if s := Suggest(name, names); s != "" {
		return s
	}
	if len(names) == 0 {
		return "; none is allowed here"
	}
	return " (known: " + strings.Join(names, ", ") + ")"
}
